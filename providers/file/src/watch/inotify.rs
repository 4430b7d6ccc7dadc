//! inotify: one instance and one thread for all providers of the process, while anything is
//! watched. A user has only 128 instances by default.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use parking_lot::Mutex;

use super::directory_watch::{Failures, Filter};

/// Events of changes. Reads are excluded, because a provider's own reads would wake it.
const CHANGES: WatchMask = WatchMask::ATTRIB
    .union(WatchMask::CREATE)
    .union(WatchMask::DELETE)
    .union(WatchMask::MODIFY)
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::MOVE)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF);

/// Events of removed or moved files, and of watches that have ended.
const GONE: EventMask = EventMask::DELETE
    .union(EventMask::MOVED_FROM)
    .union(EventMask::DELETE_SELF)
    .union(EventMask::MOVE_SELF)
    .union(EventMask::UNMOUNT)
    .union(EventMask::IGNORED);

static INSTANCE: Mutex<Option<Instance>> = Mutex::new(None);
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// The process's inotify instance. Its thread ends with the last watch. If nothing could be
/// watched, it is kept for the next attempt.
struct Instance {
    id: u64,
    watches: Watches,
    /// Subscribers of each descriptor. One descriptor is one directory, even if it is watched by
    /// several paths.
    watched: HashMap<WatchDescriptor, Vec<Subscriber>>,
    /// Number of calls of [`watch`] that are between their two locks. Until they end, a descriptor
    /// may get another subscriber.
    adding: usize,
    /// Descriptors without a subscriber, kept while `adding` is not 0.
    unused: Vec<WatchDescriptor>,
    /// Descriptors that the system has ended while `adding` was not 0.
    ended: HashSet<WatchDescriptor>,
}

struct Subscriber {
    id: u64,
    /// Path by which this subscriber watches the directory.
    directory: PathBuf,
    filter: Arc<Filter>,
}

/// Directories that are watched until this is dropped.
pub(super) struct Watching {
    id: u64,
    descriptors: Vec<WatchDescriptor>,
}

/// Watches those directories of this filter's chain that can be watched. Blocks while their file
/// systems do, without taking the lock.
///
/// # Errors
/// If no instance or no thread can be created.
pub(super) fn watch(filter: &Arc<Filter>) -> io::Result<(Option<Watching>, Failures)> {
    let (instance, mut watches) = {
        let mut guard = INSTANCE.lock();
        let instance = match &mut *guard {
            Some(instance) => instance,
            empty => empty.insert(Instance::spawn()?),
        };
        instance.adding += 1;
        (instance.id, instance.watches.clone())
    };
    let added: Vec<_> = filter
        .directories()
        .map(|directory| (directory.to_owned(), watches.add(directory, CHANGES)))
        .collect();
    let mut guard = INSTANCE.lock();
    let instance = guard
        .as_mut()
        .filter(|present| present.id == instance)
        .ok_or_else(|| io::Error::other("inotify has failed"))?;
    let id = next_id();
    let (descriptors, failures) = instance.subscribe(id, filter, added);
    instance.adding -= 1;
    if instance.adding == 0 {
        instance.ended.clear();
        for descriptor in std::mem::take(&mut instance.unused) {
            instance.unwatch(descriptor);
        }
    }
    drop(guard);
    // Made after the lock is released, because dropping it takes the lock.
    let watching = (!descriptors.is_empty()).then(|| Watching { id, descriptors });
    Ok((watching, failures))
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut guard = INSTANCE.lock();
        let Some(instance) = &mut *guard else { return };
        for descriptor in std::mem::take(&mut self.descriptors) {
            let Some(subscribers) = instance.watched.get_mut(&descriptor) else {
                continue;
            };
            subscribers.retain(|subscriber| subscriber.id != self.id);
            if subscribers.is_empty() {
                instance.watched.remove(&descriptor);
                if instance.adding == 0 {
                    instance.unwatch(descriptor);
                } else {
                    instance.unused.push(descriptor);
                }
            }
        }
    }
}

/// Event in a directory, for one subscriber.
enum DirectoryEvent {
    Event { path: PathBuf, is_gone: bool },
    Lost,
    Ended,
}

type DirectoryEvents = Vec<(Arc<Filter>, DirectoryEvent)>;

impl Instance {
    fn spawn() -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        thread::Builder::new()
            .name("claviger-file".to_owned())
            .spawn(move || listen(inotify))?;
        Ok(Self {
            id: next_id(),
            watches,
            watched: HashMap::new(),
            adding: 0,
            unused: Vec::new(),
            ended: HashSet::new(),
        })
    }

    /// Registers this subscriber for the added descriptors.
    fn subscribe(
        &mut self,
        id: u64,
        filter: &Arc<Filter>,
        added: Vec<(PathBuf, io::Result<WatchDescriptor>)>,
    ) -> (Vec<WatchDescriptor>, Failures) {
        let (mut descriptors, mut failures) = (Vec::new(), Failures::new());
        for (directory, descriptor) in added {
            match descriptor {
                Ok(descriptor) if self.ended.contains(&descriptor) => {
                    failures.push((directory, io::ErrorKind::NotFound.into()))
                }
                Ok(descriptor) => {
                    let subscriber = Subscriber {
                        id,
                        directory,
                        filter: Arc::clone(filter),
                    };
                    self.watched
                        .entry(descriptor.clone())
                        .or_default()
                        .push(subscriber);
                    descriptors.push(descriptor);
                }
                Err(error) => failures.push((directory, error)),
            }
        }
        (descriptors, failures)
    }

    /// Ends the watch unless it has a subscriber. The event of its end wakes the thread.
    fn unwatch(&mut self, descriptor: WatchDescriptor) {
        if !self.watched.contains_key(&descriptor) {
            // Fails if the directory was removed, which ends its watch.
            let _ = self.watches.remove(descriptor);
        }
    }

    fn append_events(&mut self, event: &Event<&OsStr>, events: &mut DirectoryEvents) {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            return events.extend(self.filters().map(|filter| (filter, DirectoryEvent::Lost)));
        }
        let is_gone = event.mask.intersects(GONE);
        for subscriber in self.watched.get(&event.wd).into_iter().flatten() {
            let path = event.name.map_or_else(
                || subscriber.directory.clone(),
                |name| subscriber.directory.join(name),
            );
            events.push((
                Arc::clone(&subscriber.filter),
                DirectoryEvent::Event { path, is_gone },
            ));
        }
        if event.mask.contains(EventMask::IGNORED) {
            self.watched.remove(&event.wd);
            if self.adding > 0 {
                self.ended.insert(event.wd.clone());
            }
        }
    }

    fn filters(&self) -> impl Iterator<Item = Arc<Filter>> {
        self.watched
            .values()
            .flatten()
            .map(|subscriber| Arc::clone(&subscriber.filter))
    }
}

/// Reads events until nothing is watched.
fn listen(mut inotify: Inotify) {
    let mut buffer = [0; 4096];
    loop {
        let mut found = DirectoryEvents::new();
        let is_over = match inotify.read_events_blocking(&mut buffer) {
            Ok(events) => {
                let mut guard = INSTANCE.lock();
                if let Some(instance) = &mut *guard {
                    for event in events {
                        instance.append_events(&event, &mut found);
                    }
                }
                guard
                    .take_if(|instance| instance.watched.is_empty() && instance.adding == 0)
                    .is_some()
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
            Err(error) => {
                tracing::debug!(%error, "watch failed; setting it up again");
                found.extend(
                    INSTANCE
                        .lock()
                        .take()
                        .iter()
                        .flat_map(Instance::filters)
                        .map(|filter| (filter, DirectoryEvent::Ended)),
                );
                true
            }
        };
        // Called without the lock, because a waker may run any code.
        for (filter, event) in found {
            match event {
                DirectoryEvent::Event { path, is_gone } => filter.handle_event(&path, is_gone),
                DirectoryEvent::Lost => filter.handle_loss(),
                DirectoryEvent::Ended => filter.handle_end(),
            }
        }
        if is_over {
            return;
        }
    }
}

fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}
