//! Telling that files may have changed: by the file system's events, and by looking every now and then.

mod lookout;
mod trail;

use std::future::pending;
use std::path::PathBuf;
use std::time::Duration;

use claviger::Hints;

use lookout::{Bell, Lookout};
use trail::Trail;

pub(crate) use trail::Stamp;

/// A writer makes several events within a moment; they are one change.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// Hints at every change of what `paths` lead to, and once at first, when it has begun to watch: they may have changed since they were read. Never
/// returns.
///
/// # Cancel safety
/// Dropping the future ends the watch.
pub(crate) async fn run(paths: Vec<PathBuf>, poll: Duration, hints: Hints) {
    let (bell, mut rings) = Bell::new();
    let mut lookout: Option<Lookout> = None;
    let mut seen: Option<Trail> = None;
    let mut rung = false;
    loop {
        let mut trail = look(&paths).await;
        if lookout.as_ref().is_none_or(|lookout| !lookout.covers(&trail)) {
            // The old one stays until the new one is in place: no moment goes unwatched.
            lookout = Lookout::over(&trail, &bell).await;
            let now = look(&paths).await;
            if !now.is_along(&trail) {
                bell.ring();
            }
            trail = now;
        }
        if rung || seen.as_ref() != Some(&trail) {
            tracing::debug!(path = ?paths.first(), "may have changed");
            hints.changed();
        }
        seen = Some(trail);
        rung = tokio::select! {
            () = rings.next() => true,
            () = tokio::time::sleep(poll) => false,
        };
        if rung {
            tokio::time::sleep(DEBOUNCE).await;
            // Before looking: what happens from now on is news.
            rings.forget();
        }
    }
}

async fn look(paths: &[PathBuf]) -> Trail {
    let paths = paths.to_owned();
    off_thread(move || Trail::of(&paths)).await
}

/// Does what may block in a thread that may be blocked. A panic goes on in the caller.
pub(crate) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going away, and this task with it.
            Err(_) => pending().await,
        },
    }
}
