//! Watch over the directories of a symlink chain. Only events at its entries notify.

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

/// Notifies from the watcher's thread. Notifications that were not received yet are merged.
#[derive(Clone)]
pub(super) struct Notifier(Arc<watch::Sender<()>>);

/// Receiver of a [`Notifier`].
pub(super) struct Notifications {
    received: watch::Receiver<()>,
    /// Keeps the channel open.
    _notifier: Notifier,
}

impl Notifier {
    pub(super) fn new() -> (Self, Notifications) {
        let (sender, received) = watch::channel(());
        let notifier = Self(Arc::new(sender));
        (
            notifier.clone(),
            Notifications {
                received,
                _notifier: notifier,
            },
        )
    }

    pub(super) fn notify(&self) {
        self.0.send_replace(());
    }
}

impl Notifications {
    /// Resolves once a notification has arrived that was neither received nor discarded.
    ///
    /// # Cancel safety
    /// No notification is lost when the future is dropped.
    pub(super) async fn next(&mut self) {
        // The channel cannot close, because its sender is a field of this type.
        let _ = self.received.changed().await;
    }

    pub(super) fn discard(&mut self) {
        self.received.mark_unchanged();
    }
}

/// Watch over the directories of a symlink chain.
pub(super) struct DirectoryWatch {
    filter: Arc<Filter>,
    /// Ends the watch when it is dropped.
    _watching: system::Watching,
}

impl DirectoryWatch {
    /// Watches the directories that can be watched. Returns `None` if there are none.
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
                unavailable::log(&error, Unwatched::All);
                tracing::debug!(%error, "files not watched; they are polled");
                return None;
            }
        };
        for (directory, error) in &failures {
            unavailable::log(error, Unwatched::Directory);
            tracing::debug!(
                directory = %directory.display(),
                %error,
                "directory not watched; it is polled"
            );
            filter.broken.store(true, Ordering::Release);
        }
        Some(Self {
            filter,
            _watching: watching?,
        })
    }

    /// Returns whether every change along `chain` causes an event.
    pub(super) fn covers(&self, chain: &SymlinkChain) -> bool {
        !self.filter.broken.load(Ordering::Acquire) && self.filter.chain.has_same_paths_as(chain)
    }
}

/// The directories that could not be watched.
pub(super) type Failures = Vec<(PathBuf, io::Error)>;

/// Filter that notifies of events of one symlink chain.
pub(super) struct Filter {
    chain: SymlinkChain,
    /// Whether a directory is not, or no longer, watched.
    broken: AtomicBool,
    notifier: Notifier,
}

impl Filter {
    /// Returns the directories to watch.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.chain.directories()
    }

    /// Handles an event at `path`. `is_gone` is set if it was removed or moved. The watch of such a
    /// directory has ended.
    pub(super) fn handle_event(&self, path: &Path, is_gone: bool) {
        if self.chain.concerns(path) {
            if is_gone && self.chain.is_directory(path) {
                self.broken.store(true, Ordering::Release);
            }
            self.notifier.notify();
        }
    }

    /// Handles a loss of events.
    pub(super) fn handle_loss(&self) {
        self.notifier.notify();
    }

    /// Handles the end of the watch.
    pub(super) fn handle_end(&self) {
        self.broken.store(true, Ordering::Release);
        self.notifier.notify();
    }
}

/// Part that an error leaves unwatched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unwatched {
    All,
    Directory,
}

/// Logs each limit of the system that leaves files unwatched, once for the process.
mod unavailable {
    use super::{AtomicBool, Ordering, Unwatched, io};

    static INSTANCES: AtomicBool = AtomicBool::new(false);
    static WATCHES: AtomicBool = AtomicBool::new(false);
    static OTHERS: AtomicBool = AtomicBool::new(false);

    pub(super) fn log(error: &io::Error, unwatched: Unwatched) {
        let (logged, limit) = match error.kind() {
            // inotify returns the same error if the process has no file descriptor left.
            _ if is_out_of_instances(error) => (
                &INSTANCES,
                "fs.inotify.max_user_instances, or the open files of the process",
            ),
            io::ErrorKind::StorageFull => (&WATCHES, "fs.inotify.max_user_watches"),
            // A sandbox without inotify, or a process without room for a thread.
            _ if unwatched == Unwatched::All => (&OTHERS, "none, inotify is missing"),
            // A directory that is missing or must not be read.
            _ => return,
        };
        if !logged.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, limit, "files not watched, only polled; raise the limit");
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
    fn a_directory_that_cannot_be_watched_blocks_no_other_watch() {
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
        // Does not wait for a thread that may hang.
        runtime.shutdown_background();
        assert!(watched.is_ok());
    }
}
