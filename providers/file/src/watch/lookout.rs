//! The file system's events, sieved: only those on the way to the files ring the bell.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;

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
    trail: Trail,
    /// A directory was not watched, or is not any more.
    broken: Arc<AtomicBool>,
    /// Watches until it is dropped.
    _watcher: RecommendedWatcher,
}

impl Lookout {
    /// Watches what can be watched; `None` when nothing can.
    pub(super) async fn over(trail: &Trail, bell: &Bell) -> Option<Self> {
        let (trail, bell) = (trail.clone(), bell.clone());
        // Setting up waits for the watcher's thread.
        off_thread(move || Self::set_up(trail, bell)).await
    }

    fn set_up(trail: Trail, bell: Bell) -> Option<Self> {
        let broken = Arc::new(AtomicBool::new(false));
        let sieve = Sieve { trail: trail.clone(), broken: Arc::clone(&broken), bell };
        let mut watcher = notify::recommended_watcher(move |event| sieve.take(event))
            .inspect_err(|error| tracing::debug!(%error, "no watch is to be had; the files are looked at now and then"))
            .ok()?;
        let mut watched: Vec<PathBuf> = Vec::new();
        for directory in trail.directories() {
            match watcher.watch(directory, RecursiveMode::NonRecursive) {
                Ok(()) => watched.push(directory.to_owned()),
                Err(error) => {
                    tracing::debug!(directory = %directory.display(), %error, "cannot be watched; it is looked at now and then");
                    broken.store(true, Ordering::Release);
                }
            }
        }
        if watched.is_empty() {
            return None;
        }
        Some(Self { trail, broken, _watcher: watcher })
    }

    /// Whether every change along `trail` is told.
    pub(super) fn covers(&self, trail: &Trail) -> bool {
        !self.broken.load(Ordering::Acquire) && self.trail.is_along(trail)
    }
}

struct Sieve {
    trail: Trail,
    broken: Arc<AtomicBool>,
    bell: Bell,
}

impl Sieve {
    fn take(&self, event: notify::Result<Event>) {
        match event {
            Ok(event) if is_reading(event.kind) => {}
            // Events were lost, or nobody knows where it was.
            Ok(event) if event.need_rescan() || event.paths.is_empty() => self.bell.ring(),
            Ok(event) if event.paths.iter().any(|path| self.trail.concerns(path)) => {
                if event.paths.iter().any(|path| self.trail.is_directory(path)) && ends_a_watch(event.kind) {
                    self.broken.store(true, Ordering::Release);
                }
                self.bell.ring();
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "the watch has failed; setting it up anew");
                self.broken.store(true, Ordering::Release);
                self.bell.ring();
            }
        }
    }
}

/// Our own readings are events, too: to answer them would never end.
fn is_reading(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    }
}

/// A directory that is removed or moved away takes its watch along.
fn ends_a_watch(kind: EventKind) -> bool {
    matches!(kind, EventKind::Remove(_) | EventKind::Modify(notify::event::ModifyKind::Name(_)))
}
