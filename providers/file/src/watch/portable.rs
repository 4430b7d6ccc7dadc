//! Where there is no inotify: a watcher of `notify`'s for each provider.

use std::io;
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::directory_watch::{Failures, Filter};

/// Directories that are watched until it is dropped.
pub(super) struct Watching {
    _watcher: RecommendedWatcher,
}

/// Watches the directories of this filter's chain, those that can be. Waits for the watcher's
/// thread.
///
/// # Errors
/// When there is no watcher to be had.
pub(super) fn watch(filter: &Arc<Filter>) -> io::Result<(Option<Watching>, Failures)> {
    let for_events = Arc::clone(filter);
    let mut watcher = notify::recommended_watcher(move |event| take(&for_events, event))
        .map_err(io::Error::other)?;
    let mut failures = Failures::new();
    let mut is_any_watched = false;
    for directory in filter.directories() {
        match watcher.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => is_any_watched = true,
            Err(error) => failures.push((directory.to_owned(), io::Error::other(error))),
        }
    }
    Ok((
        is_any_watched.then_some(Watching { _watcher: watcher }),
        failures,
    ))
}

fn take(filter: &Filter, event: notify::Result<Event>) {
    match event {
        Ok(event) if is_reading(event.kind) => {}
        // Events were lost, or nobody knows where it was.
        Ok(event) if event.need_rescan() || event.paths.is_empty() => filter.lost(),
        Ok(event) => {
            let is_gone = matches!(
                event.kind,
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
            );
            event
                .paths
                .iter()
                .for_each(|path| filter.event(path, is_gone));
        }
        Err(error) => {
            tracing::debug!(%error, "the watch has failed; setting it up anew");
            filter.ended();
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
