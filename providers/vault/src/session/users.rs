//! Users of a session. When the last one leaves, the session's tokens are revoked.

use std::sync::atomic::{AtomicU8, Ordering};

use claviger::provider::Clock;
use serde_json::json;

use super::{Inner, VaultSession};
use crate::api::Call;

const NEW: u8 = 0;
const JOINED: u8 = 1;
const LEFT: u8 = 2;

/// A provider that uses the session, from its first fetch to its `close`.
pub(crate) struct SessionUser {
    session: VaultSession,
    state: AtomicU8,
}

impl SessionUser {
    /// Joins the session, and sets its clock. A provider that has left does not join again.
    pub(crate) fn join(&self, clock: &Clock) {
        self.session.set_clock(clock);
        if self
            .state
            .compare_exchange(NEW, JOINED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            self.session.0.state.lock().users += 1;
        }
    }

    /// Leaves the session. The last user revokes its tokens.
    pub(crate) async fn leave(&self) {
        if self.state.swap(LEFT, Ordering::AcqRel) == JOINED {
            self.session.0.state.lock().users -= 1;
            self.session.0.revoke_tokens().await;
        }
    }
}

impl VaultSession {
    /// Returns a new user, which has not joined yet.
    pub(crate) fn user(&self) -> SessionUser {
        SessionUser {
            session: self.clone(),
            state: AtomicU8::new(NEW),
        }
    }
}

impl Inner {
    /// Revokes the session's own tokens, and forgets external ones.
    async fn revoke_tokens(&self) {
        let _updating = self.update_lock.lock().await;
        let now = self.now();
        let tokens: Vec<_> = {
            let mut state = self.state.lock();
            if state.users > 0 {
                return;
            }
            state.failed = None;
            state.first = None;
            state.rejected = None;
            let replaced = std::mem::take(&mut state.replaced);
            state
                .token
                .take()
                .into_iter()
                .chain(replaced)
                .filter(|token| token.needs_revocation(now))
                .collect()
        };
        for token in tokens {
            // All leases of the token are revoked with it.
            match self
                .send(&token, || Call::post("auth/token/revoke-self", json!({})))
                .await
            {
                Ok(_) => {
                    self.state.lock().invalid.insert(token.serial());
                }
                Err(failure) => {
                    let error = failure.explain(
                        &self.place("auth/token/revoke-self"),
                        "grant `update` on auth/token/revoke-self",
                    );
                    tracing::warn!(
                        error = %error,
                        "the session's token was not revoked; it stays valid until it expires"
                    );
                }
            }
        }
    }
}
