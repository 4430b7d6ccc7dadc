//! Watching the directories of a trail: only events on the way to the files ring the bell.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

#[cfg(not(target_os = "linux"))]
use super::elsewhere as system;
#[cfg(target_os = "linux")]
use super::linux as system;
use super::off_thread;
use super::trail::Trail;

/// Rung from the watcher's own thread. Any number of rings until it is heard are one.
#[derive(Clone)]
pub(super) struct Bell(Arc<watch::Sender<()>>);

/// Whoever listens to a bell.
pub(super) struct Rings {
    heard: watch::Receiver<()>,
    /// So that the bell never ends.
    _bell: Bell,
}

impl Bell {
    pub(super) fn new() -> (Self, Rings) {
        let (sender, heard) = watch::channel(());
        let bell = Self(Arc::new(sender));
        (bell.clone(), Rings { heard, _bell: bell })
    }

    pub(super) fn ring(&self) {
        self.0.send_replace(());
    }
}

impl Rings {
    /// Resolves when the bell has rung since it was last heard or forgotten.
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

/// A watch over the directories of a trail.
pub(super) struct Lookout {
    filter: Arc<Filter>,
    /// Watches until it is dropped.
    _watching: system::Watching,
}

impl Lookout {
    /// Watches what can be watched; `None` when nothing can.
    pub(super) async fn over(trail: &Trail, bell: &Bell) -> Option<Self> {
        let filter = Arc::new(Filter {
            trail: trail.clone(),
            broken: AtomicBool::new(false),
            bell: bell.clone(),
        });
        let for_events = Arc::clone(&filter);
        let (watching, failures) = match off_thread(move || system::watch(&for_events)).await {
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

    /// Whether every change along `trail` is told.
    pub(super) fn covers(&self, trail: &Trail) -> bool {
        !self.filter.broken.load(Ordering::Acquire) && self.filter.trail.is_along(trail)
    }
}

/// The directories that could not be watched.
pub(super) type Failures = Vec<(PathBuf, io::Error)>;

/// What events pass on their way to a bell.
pub(super) struct Filter {
    trail: Trail,
    /// A directory was not watched, or is not any more.
    broken: AtomicBool,
    bell: Bell,
}

impl Filter {
    /// The directories to watch.
    pub(super) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.trail.directories()
    }

    /// Something happened to `path`. `is_gone`: it was removed or moved away; a directory takes its
    /// watch along.
    pub(super) fn event(&self, path: &Path, is_gone: bool) {
        if self.trail.concerns(path) {
            if is_gone && self.trail.is_directory(path) {
                self.broken.store(true, Ordering::Release);
            }
            self.bell.ring();
        }
    }

    /// Events were lost.
    pub(super) fn lost(&self) {
        self.bell.ring();
    }

    /// The watch has ended.
    pub(super) fn ended(&self) {
        self.broken.store(true, Ordering::Release);
        self.bell.ring();
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
        let trails = [
            Trail::of(&[gone.join("password")]),
            Trail::of(&[dir.path().join("password")]),
        ];
        fs::remove_dir(gone).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let watching = async {
            let (bell, mut rings) = Bell::new();
            let [unwatched, watched] = [
                Lookout::over(&trails[0], &bell).await,
                Lookout::over(&trails[1], &bell).await,
            ];
            assert!(unwatched.is_none());
            assert!(watched.unwrap().covers(&trails[1]));
            let watched = Lookout::over(&trails[1], &bell).await.unwrap();
            fs::write(dir.path().join("password"), "s3cret").unwrap();
            rings.next().await;
            drop(watched);
        };
        let watched = runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(10), watching).await });
        // Not waiting for a thread that would hang.
        runtime.shutdown_background();
        assert!(watched.is_ok());
    }
}
