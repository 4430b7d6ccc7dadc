//! Waiting for a condition, never for a time.

use std::time::Duration;

/// Waits up to ten seconds until the condition holds.
///
/// # Panics
/// When it does not, naming it.
pub async fn eventually(what: &str, condition: impl FnMut() -> bool) {
    eventually_within(Duration::from_secs(10), what, condition).await;
}

/// Waits until the condition holds.
///
/// # Panics
/// When it does not within `patience`, naming it.
pub async fn eventually_within(patience: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(patience, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    if waited.is_err() {
        panic!("not within {patience:?}: {what}");
    }
}
