//! Callers that wait for a connection, and the errors of logins for them. bb8 does not return the
//! error of a login.

use std::collections::VecDeque;
use std::sync::Arc;

use claviger_tokio_postgres::CallError;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Callers that wait, and logins of bb8, of one pool. Clones share the state.
#[derive(Clone, Default)]
pub(crate) struct Waiting {
    state: Arc<Mutex<State>>,
    /// Notified when an error was added.
    changed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    callers: usize,
    /// Logins that have not ended. Some wait for a permit.
    logins: usize,
    /// Errors of logins, for one caller each. There are no more of them than callers.
    errors: VecDeque<CallError>,
}

/// A caller that waits, until it has an error or is dropped.
pub(crate) struct WaitingCaller {
    waiting: Waiting,
    has_error: bool,
}

/// A login of bb8, until dropped.
pub(crate) struct PendingLogin(Option<Waiting>);

impl Waiting {
    pub(crate) fn caller(&self) -> WaitingCaller {
        self.state.lock().callers += 1;
        WaitingCaller {
            waiting: self.clone(),
            has_error: false,
        }
    }

    pub(crate) fn login(&self) -> PendingLogin {
        self.state.lock().logins += 1;
        PendingLogin(Some(self.clone()))
    }

    /// Returns whether a login is pending for each waiting caller.
    pub(crate) fn each_caller_has_a_login(&self) -> bool {
        self.state.lock().each_caller_is_served()
    }
}

impl State {
    /// Returns whether each caller has an error or a pending login.
    fn each_caller_is_served(&self) -> bool {
        self.errors.len() + self.logins >= self.callers
    }
}

impl PendingLogin {
    /// Gives the error of this login to one caller. Returns the login if another caller has none of
    /// its own, because bb8 starts no further login for callers that already wait.
    pub(crate) fn failed(mut self, error: &CallError) -> Option<Self> {
        let waiting = self.0.take()?;
        let mut state = waiting.state.lock();
        if state.errors.len() < state.callers {
            state.errors.push_back(error.clone());
        }
        state.logins -= 1;
        let repeats = !state.each_caller_is_served();
        if repeats {
            state.logins += 1;
        }
        drop(state);
        waiting.changed.notify_waiters();
        repeats.then(|| Self(Some(waiting)))
    }
}

impl Drop for PendingLogin {
    fn drop(&mut self) {
        if let Some(waiting) = &self.0 {
            waiting.state.lock().logins -= 1;
        }
    }
}

impl WaitingCaller {
    /// Resolves with the error of a login that no other caller takes. Called once.
    pub(crate) async fn error(&mut self) -> CallError {
        let Waiting { state, changed } = &self.waiting;
        loop {
            // Created before the state is read, so that no notification is missed.
            let changed = changed.notified();
            {
                let mut state = state.lock();
                if let Some(error) = state.errors.pop_front() {
                    state.callers -= 1;
                    self.has_error = true;
                    return error;
                }
            }
            changed.await;
        }
    }
}

impl Drop for WaitingCaller {
    fn drop(&mut self) {
        if !self.has_error {
            let mut state = self.waiting.state.lock();
            state.callers -= 1;
            let callers = state.callers;
            state.errors.truncate(callers);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn each_error_is_for_one_caller_and_the_last_caller_with_none_gets_another_login() {
        let waiting = Waiting::default();
        let mut callers = [waiting.caller(), waiting.caller(), waiting.caller()];
        let logins = [waiting.login(), waiting.login()];
        assert!(!waiting.each_caller_has_a_login());
        let [first, second] = logins;
        let first = first.failed(&CallError::TimedOut);
        assert!(first.is_some(), "the third caller has no login");
        assert!(
            second.failed(&CallError::TimedOut).is_none(),
            "two callers have an error, and one has a login"
        );
        let got = |callers: &mut [WaitingCaller]| {
            let got = callers
                .iter_mut()
                .filter_map(|caller| caller.error().now_or_never());
            got.count()
        };
        assert_eq!(got(&mut callers), 2);
        drop(callers);
        drop(first);
        let mut late = [waiting.caller()];
        assert_eq!(got(&mut late), 0, "errors are for callers that waited");
    }
}
