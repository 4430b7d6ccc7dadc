//! Hints when files may have changed: by events of the file system, and by polling.

mod directory_watch;
#[cfg(target_os = "linux")]
mod inotify;
#[cfg(not(target_os = "linux"))]
mod portable;
mod symlink_chain;

use std::future::pending;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use claviger::provider::Hints;

use directory_watch::{DirectoryWatch, Notifier};
use symlink_chain::SymlinkChain;

pub(crate) use symlink_chain::Stamp;

/// Time within which several events are one change. A writer causes several.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// Hints at every change of the files at `paths`. Never returns.
///
/// `changed_before` is polled once the watch has begun. It returns whether the files have changed
/// since they were last read. Later changes cause events.
///
/// # Cancel safety
/// Dropping the future ends the watch.
pub(crate) async fn watch_paths(
    paths: Vec<PathBuf>,
    poll_interval: Duration,
    changed_before: impl Future<Output = bool>,
    hints: Hints,
) {
    let (notifier, mut notifications) = Notifier::new();
    let mut watch: Option<DirectoryWatch> = None;
    let mut changed_before = Some(pin!(changed_before));
    let mut seen = SymlinkChain::default();
    let mut notified = false;
    loop {
        let mut chain = resolve_links(&paths).await;
        let is_new = watch.as_ref().is_none_or(|watch| !watch.covers(&chain));
        if is_new {
            // The old watch continues until the new one has begun, so that no change is missed.
            watch = DirectoryWatch::start(&chain, &notifier).await;
            let resolved = resolve_links(&paths).await;
            if !resolved.has_same_paths_as(&chain) {
                notifier.notify();
            }
            chain = resolved;
        }
        let changed = match changed_before.take() {
            Some(changed_before) => changed_before.await,
            None => notified || seen != chain,
        };
        if changed {
            tracing::debug!(path = ?paths.first(), "files may have changed");
            hints.changed();
        }
        if is_new && watch.is_some() {
            tracing::debug!(path = ?paths.first(), "watching");
        }
        seen = chain;
        notified = tokio::select! {
            () = notifications.next() => true,
            () = tokio::time::sleep(poll_interval) => false,
        };
        if notified {
            tokio::time::sleep(DEBOUNCE).await;
            // Discarded before the files are read: a later event is another change.
            notifications.discard();
        }
    }
}

async fn resolve_links(paths: &[PathBuf]) -> SymlinkChain {
    let paths = paths.to_owned();
    run_blocking(move || SymlinkChain::follow_all(&paths)).await
}

/// Runs `work` in a blocking thread. A panic is resumed in the caller.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime shuts down, and this task with it.
            Err(_) => pending().await,
        },
    }
}
