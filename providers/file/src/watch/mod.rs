//! Telling that files may have changed: by the file system's events, and by looking every now and
//! then.

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

use claviger::Hints;

use directory_watch::{DirectoryWatch, Notifier};
use symlink_chain::SymlinkChain;

pub(crate) use symlink_chain::Stamp;

/// A writer makes several events within a moment; they are one change.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// Hints at every change of what `paths` lead to. `changed_before` is polled once the watch has
/// begun, and says whether they have changed since they were last read: what happens later makes an
/// event. Never returns.
///
/// # Cancel safety
/// Dropping the future ends the watch.
pub(crate) async fn watch_paths(
    paths: Vec<PathBuf>,
    poll: Duration,
    changed_before: impl Future<Output = bool>,
    hints: Hints,
) {
    let (notifier, mut notifications) = Notifier::new();
    let mut watch: Option<DirectoryWatch> = None;
    let mut changed_before = Some(pin!(changed_before));
    let mut seen = SymlinkChain::default();
    let mut rung = false;
    loop {
        let mut chain = resolve_links(&paths).await;
        let is_new = watch.as_ref().is_none_or(|watch| !watch.covers(&chain));
        if is_new {
            // The old one stays until the new one is in place: no moment goes unwatched.
            watch = DirectoryWatch::start(&chain, &notifier).await;
            let now = resolve_links(&paths).await;
            if !now.has_same_paths_as(&chain) {
                notifier.notify();
            }
            chain = now;
        }
        let changed = match changed_before.take() {
            Some(changed_before) => changed_before.await,
            None => rung || seen != chain,
        };
        if changed {
            tracing::debug!(path = ?paths.first(), "may have changed");
            hints.changed();
        }
        if is_new && watch.is_some() {
            tracing::debug!(path = ?paths.first(), "watching");
        }
        seen = chain;
        rung = tokio::select! {
            () = notifications.next() => true,
            () = tokio::time::sleep(poll) => false,
        };
        if rung {
            tokio::time::sleep(DEBOUNCE).await;
            // Before looking: what happens from now on is news.
            notifications.forget();
        }
    }
}

async fn resolve_links(paths: &[PathBuf]) -> SymlinkChain {
    let paths = paths.to_owned();
    run_blocking(move || SymlinkChain::follow_all(&paths)).await
}

/// Does what may block in a thread that may be blocked. A panic goes on in the caller.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going away, and this task with it.
            Err(_) => pending().await,
        },
    }
}
