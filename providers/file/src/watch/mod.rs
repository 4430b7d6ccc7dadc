//! Telling that files may have changed: by the file system's events, and by looking every now and
//! then.

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;
mod lookout;
mod trail;

use std::future::pending;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use claviger::Hints;

use lookout::{Bell, Lookout};
use trail::Trail;

pub(crate) use trail::Stamp;

/// A writer makes several events within a moment; they are one change.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// Hints at every change of what `paths` lead to. `changed_before` is polled once the watch has
/// begun, and says whether they have changed since they were last read: what happens later makes an
/// event. Never returns.
///
/// # Cancel safety
/// Dropping the future ends the watch.
pub(crate) async fn run(
    paths: Vec<PathBuf>,
    poll: Duration,
    changed_before: impl Future<Output = bool>,
    hints: Hints,
) {
    let (bell, mut rings) = Bell::new();
    let mut lookout: Option<Lookout> = None;
    let mut changed_before = Some(pin!(changed_before));
    let mut seen = Trail::default();
    let mut rung = false;
    loop {
        let mut trail = look(&paths).await;
        let is_new = lookout
            .as_ref()
            .is_none_or(|lookout| !lookout.covers(&trail));
        if is_new {
            // The old one stays until the new one is in place: no moment goes unwatched.
            lookout = Lookout::over(&trail, &bell).await;
            let now = look(&paths).await;
            if !now.is_along(&trail) {
                bell.ring();
            }
            trail = now;
        }
        let changed = match changed_before.take() {
            Some(changed_before) => changed_before.await,
            None => rung || seen != trail,
        };
        if changed {
            tracing::debug!(path = ?paths.first(), "may have changed");
            hints.changed();
        }
        if is_new && lookout.is_some() {
            tracing::debug!(path = ?paths.first(), "watching");
        }
        seen = trail;
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
