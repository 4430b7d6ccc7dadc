//! Watching the directories of a chain: only events on the way to the files ring the notifier.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

#[cfg(target_os = "linux")]
use super::inotify as system;
#[cfg(not(target_os = "linux"))]
use super::portable as system;
use super::run_blocking;
use super::symlink_chain::SymlinkChain;

/// Rung from the watcher's own thread. Any number of notifications until it is heard are one.
#[derive(Clone)]
pub(super) struct Notifier(Arc<watch::Sender<()>>);

/// Whoever listens to a notifier.
pub(super) struct Notifications {
    heard: watch::Receiver<()>,
    /// So that the notifier never ends.
    _bell: Notifier,
}

impl Notifier {
    pub(super) fn new() -> (Self, Notifications) {
        let (sender, heard) = watch::channel(());
        let notifier = Self(Arc::new(sender));
        (
            notifier.clone(),
            Notifications {
                heard,
                _bell: notifier,
            },
        )
    }

    pub(super) fn notify(&self) {
        self.0.send_replace(());
    }
}

impl Notifications {
    /// Resolves when the notifier has rung since it was last heard or forgotten.
    ///
    /// # Cancel safety
    /// No ring is lost when the future is dropped.
    pub(super) async fn next(&mut self) {
        // It cannot end: its sender lives as long as this.
        let _ = self.heard.changed().await;
    }

    pub(super) fn forget(&mut self) {
        self.heard.mark_unchanged();
    }
}

/// A watch over the directories of a chain.
pub(super) struct DirectoryWatch {
    filter: Arc<Filter>,
    /// Watches until it is dropped.
    _watching: system::Watching,
}

impl DirectoryWatch {
    /// Watches what can be watched; `None` when nothing can.
    pub(super) async fn start(chain: &SymlinkChain, notifier: &Notifier) -> Option<Self> {
        let filter = Arc::new(Filter {
            chain: chain.clone(),
            broken: AtomicBool::new(false),
            notifier: notifier.clone(),
        });
        let for_events = Arc::clone(&filter);
        let (watching, failures) = match run_blocking(move || system::watch(&for_events)).await {
            Ok(watched) => watched,
            Err(error) => {
                unavailable::log(&error);
                tracing::debug!(%error, "no watch is to be had; the files are looked at now and then");
                return None;
            }
        };
        for (directory, error) in &failures {
            unavailable::log(error);
            tracing::debug!(directory = %directory.display(), %error, "cannot be watched; it is looked at now and then");
            filter.broken.store(true, Ordering::Release);
        }
        Some(Self {
            filter,
            _watching: watching?,
        })
    }

    /// Whether every change along `chain` is told.
    pub(super) fn covers(&self, chain: &SymlinkChain) -> bool {
        !self.filter.broken.load(Ordering::Acquire) && self.filter.chain.has_same_paths_as(chain)
    }
}

/// The directories that could not be watched.
pub(super) type Failures = Vec<(PathBuf, io::Error)>;

/// What events pass on their way to a notifier.
pub(super) struct Filter {
    chain: SymlinkChain,
    /// A directory was not watched, or is not any more.
    broken: AtomicBool,
    notifier: Notifier,
}

impl Filter {
    /// The directories to watch.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.chain.directories()
    }

    /// Something happened to `path`. `is_gone`: it was removed or moved away; a directory takes its
    /// watch along.
    pub(super) fn event(&self, path: &Path, is_gone: bool) {
        if self.chain.concerns(path) {
            if is_gone && self.chain.is_directory(path) {
                self.broken.store(true, Ordering::Release);
            }
            self.notifier.notify();
        }
    }

    /// Events were lost.
    pub(super) fn lost(&self) {
        self.notifier.notify();
    }

    /// The watch has ended.
    pub(super) fn ended(&self) {
        self.broken.store(true, Ordering::Release);
        self.notifier.notify();
    }
}

/// The limits of the system that leave files unwatched, each logged once for the process.
mod unavailable {
    use super::{AtomicBool, Ordering, io};

    static INSTANCES: AtomicBool = AtomicBool::new(false);
    static WATCHES: AtomicBool = AtomicBool::new(false);

    pub(super) fn log(error: &io::Error) {
        let (logged, limit) = match error.kind() {
            // Also what inotify returns where the process has no file descriptor left.
            _ if is_out_of_instances(error) => (
                &INSTANCES,
                "fs.inotify.max_user_instances, or the open files of the process",
            ),
            io::ErrorKind::StorageFull => (&WATCHES, "fs.inotify.max_user_watches"),
            _ => return,
        };
        if !logged.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, limit, "files not watched, changes seen by the poll alone; raise the limit");
        }
    }

    #[cfg(unix)]
    fn is_out_of_instances(error: &io::Error) -> bool {
        matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
    }

    #[cfg(not(unix))]
    fn is_out_of_instances(_error: &io::Error) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::fs;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_directory_that_cannot_be_watched_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        fs::create_dir(&gone).unwrap();
        let chains = [
            SymlinkChain::follow_all(&[gone.join("password")]),
            SymlinkChain::follow_all(&[dir.path().join("password")]),
        ];
        fs::remove_dir(gone).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let watching = async {
            let (notifier, mut notifications) = Notifier::new();
            let [unwatched, watched] = [
                DirectoryWatch::start(&chains[0], &notifier).await,
                DirectoryWatch::start(&chains[1], &notifier).await,
            ];
            assert!(unwatched.is_none());
            assert!(watched.unwrap().covers(&chains[1]));
            let watched = DirectoryWatch::start(&chains[1], &notifier).await.unwrap();
            fs::write(dir.path().join("password"), "s3cret").unwrap();
            notifications.next().await;
            drop(watched);
        };
        let watched = runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(10), watching).await });
        // Not waiting for a thread that would hang.
        runtime.shutdown_background();
        assert!(watched.is_ok());
    }
}
