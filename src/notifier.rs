//! Notifies tasks that wait for a change of state.

use tokio::sync::Notify;

/// Wakes all tasks that wait in [`until`](Self::until).
#[derive(Debug, Default)]
pub(crate) struct Notifier(Notify);

impl Notifier {
    /// Wakes the tasks. Call it after a change that they check for.
    pub(crate) fn notify(&self) {
        self.0.notify_waiters();
    }

    /// Resolves with the result of `check`. It is called at once and after each notification.
    pub(crate) async fn until<T>(&self, mut check: impl FnMut() -> Option<T>) -> T {
        loop {
            // Created before the check, so that no notification is missed.
            let notified = self.0.notified();
            if let Some(found) = check() {
                return found;
            }
            notified.await;
        }
    }
}
