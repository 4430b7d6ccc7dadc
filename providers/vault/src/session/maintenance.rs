//! Background maintenance of the token, in the watch of each registered provider.

use std::time::Duration;

use claviger::lease::Timestamp;
use claviger::provider::Hints;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep_until};

use super::{Inner, State, VaultSession};
use crate::auth::AuthSecret;

/// Pauses between failed attempts to renew or replace a token: the first doubles to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// Longest pause that a server may request.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);
/// Time between two reads of a file that may contain the next token or secret.
const FILE_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Longest wait without a task.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// Dependence of leases on the token. It determines when a provider fetches after a change of the
/// token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseBinding {
    /// Leases expire with the token: fetch after every replacement.
    ToToken,
    /// Leases are independent of it: fetch only after failed attempts to obtain a token.
    None,
}

impl VaultSession {
    /// Renews and replaces the token when needed, and hints at changes. Runs until it is dropped.
    pub(crate) async fn maintain(&self, hints: &Hints, binding: LeaseBinding) {
        self.set_clock(hints.clock());
        let mut changes = self.0.changes.subscribe();
        let mut polled = self.now().mono();
        loop {
            let now = self.now();
            let task = self.0.next_task_at();
            let poll = self.0.awaits_file().then(|| polled + FILE_POLL_INTERVAL);
            let next = [task, poll]
                .into_iter()
                .flatten()
                .fold(now.mono() + IDLE_INTERVAL, std::time::Instant::min);
            tokio::select! {
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let change = *changes.borrow_and_update();
                    if (binding == LeaseBinding::ToToken && change.replaces) || change.recovered {
                        hints.changed();
                    }
                }
                () = sleep_until(Instant::from_std(next)) => {
                    let now = self.now();
                    if poll.is_some_and(|poll| poll <= now.mono()) {
                        polled = now.mono();
                        let used = self.0.state.lock().serial;
                        if self.0.file_has_changed().await {
                            // The session stores the result. Other providers do the same.
                            let _ = self.update_token(move |state, _| state.serial == used).await;
                        }
                    }
                    if task.is_some_and(|task| task <= now.mono()) {
                        let is_due = |state: &State, now: Timestamp| {
                            next_due(state).is_some_and(|at| at <= now.mono())
                        };
                        let _ = self.update_token(is_due).await;
                    }
                }
            }
        }
    }
}

impl Inner {
    fn next_task_at(&self) -> Option<std::time::Instant> {
        next_due(&self.state.lock())
    }

    /// Returns whether a file may contain the next token or secret: a token file always, the secret
    /// of a login once it was rejected.
    fn awaits_file(&self) -> bool {
        let is_file = self.auth.secret().is_some_and(AuthSecret::is_file);
        is_file && (self.is_token_file() || self.state.lock().rejected.is_some())
    }

    /// Returns whether the file contains neither the token in use nor the rejected secret.
    async fn file_has_changed(&self) -> bool {
        let Some(secret) = self.auth.secret() else {
            return false;
        };
        let used_or_rejected = {
            let state = self.state.lock();
            let used = state
                .token
                .as_ref()
                .filter(|token| !token.is_own())
                .map(|token| SecretString::from(token.expose()));
            used.into_iter()
                .chain(state.rejected.clone())
                .collect::<Vec<_>>()
        };
        let Ok(secret) = secret.read().await else {
            return false;
        };
        !used_or_rejected.is_empty()
            && used_or_rejected
                .iter()
                .all(|old| old.expose_secret() != secret.expose_secret())
    }
}

/// Returns the time of the token's next task, later after failures. An invalid token is replaced by
/// the next request.
fn next_due(state: &State) -> Option<std::time::Instant> {
    let (at, _) = state.token.as_ref()?.next_task()?;
    let Some(failed) = &state.failed else {
        return Some(at);
    };
    let pause = if failed.error.is_transient() {
        FIRST_PAUSE
            .saturating_mul(1 << failed.count.saturating_sub(1).min(10))
            .min(LAST_PAUSE)
    } else {
        LAST_PAUSE
    };
    // Not before the time that the server requested.
    let pause = pause.max(
        failed
            .error
            .retry_after()
            .unwrap_or_default()
            .min(LONGEST_PAUSE),
    );
    Some(at.max(failed.at + pause))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;

    use claviger::error::{ProviderError, ProviderErrorKind};
    use claviger::lease::Timestamp;

    use super::super::{FailedAttempt, Token};
    use super::*;
    use crate::api::Grant;
    use crate::lifetime::TokenOrigin;

    #[test]
    fn failed_attempts_are_retried_with_growing_pauses_and_not_before_the_servers_hint() {
        let now = Timestamp::now();
        let grant = Grant {
            lifetime: Some(Duration::ZERO),
            renewable: true,
            batch: false,
        };
        let token = Arc::new(Token::new(
            SecretString::from("t"),
            1,
            now,
            now,
            grant,
            TokenOrigin::Login,
        ));
        let pause = |kind, count, retry_after: Option<u64>| {
            let error = ProviderError::new(kind, "no");
            let error = retry_after.map_or(error.clone(), |seconds| {
                error.with_retry_after(Duration::from_secs(seconds))
            });
            let failed = Some(FailedAttempt {
                at: now.mono(),
                count,
                error,
            });
            let state = State {
                token: Some(Arc::clone(&token)),
                failed,
                ..State::default()
            };
            (next_due(&state).unwrap() - now.mono()).as_secs()
        };
        let kind = ProviderErrorKind::Throttled;
        assert_eq!(
            [1, 2, 3, 9].map(|count| pause(kind, count, None)),
            [2, 4, 8, 60]
        );
        assert_eq!(pause(ProviderErrorKind::Denied, 1, None), 60);
        assert_eq!(
            (
                pause(kind, 1, Some(30)),
                pause(kind, 9, Some(30)),
                pause(kind, 1, Some(u64::MAX))
            ),
            (30, 60, 3_600)
        );
    }

    /// Providers watch before the first fetch has logged in. That login must not cause a second
    /// fetch.
    #[test]
    fn the_first_token_replaces_none_and_causes_no_second_fetch() {
        let auth = crate::auth::Auth::app_role("role", crate::auth::SecretId::none());
        let session = VaultSession::new("http://127.0.0.1:1", auth).unwrap();
        let changes = session.0.changes.subscribe();
        let grant = || Grant {
            lifetime: Some(Duration::from_secs(60)),
            renewable: true,
            batch: false,
        };
        let replaces = |serial| {
            session.0.set_token(Arc::new(Token::new(
                SecretString::from("t"),
                serial,
                Timestamp::now(),
                Timestamp::now(),
                grant(),
                TokenOrigin::Login,
            )));
            changes.borrow().replaces
        };
        assert_eq!([1, 2, 3].map(replaces), [false, true, true]);
        // The session had no users: no lease of an earlier token is in use.
        session.0.state.lock().first = None;
        assert_eq!([4, 5].map(replaces), [false, true]);
    }
}
