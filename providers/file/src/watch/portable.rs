//! Watch on systems without inotify: one watcher of the crate `notify` for each provider.

use std::io;
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::directory_watch::{Failures, Filter};

/// Directories that are watched until this is dropped.
pub(super) struct Watching {
    _watcher: RecommendedWatcher,
}

/// Watches those directories of this filter's chain that can be watched. Waits for the watcher's
/// thread.
///
/// # Errors
/// If no watcher can be created.
pub(super) fn watch(filter: &Arc<Filter>) -> io::Result<(Option<Watching>, Failures)> {
    let for_events = Arc::clone(filter);
    let mut watcher = notify::recommended_watcher(move |event| handle_event(&for_events, event))
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

fn handle_event(filter: &Filter, event: notify::Result<Event>) {
    match event {
        Ok(event) if is_read(event.kind) => {}
        // Events were lost, or have no path.
        Ok(event) if event.need_rescan() || event.paths.is_empty() => filter.handle_loss(),
        Ok(event) => {
            let is_gone = matches!(
                event.kind,
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))
            );
            event
                .paths
                .iter()
                .for_each(|path| filter.handle_event(path, is_gone));
        }
        Err(error) => {
            tracing::debug!(%error, "watch failed; setting it up again");
            filter.handle_end();
        }
    }
}

/// Returns whether a read caused the event. Reads are ignored, because a provider's own reads would
/// wake it.
fn is_read(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    }
}
