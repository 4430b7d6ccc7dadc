//! Who uses the session: the last one to leave has its token revoked.

use std::sync::atomic::{AtomicU8, Ordering};

use claviger::Clock;
use serde_json::json;

use super::{Inner, VaultSession};
use crate::api::Call;

const NEW: u8 = 0;
const IN: u8 = 1;
const GONE: u8 = 2;

/// A provider's part in the session: from its first fetch to its `close`.
pub(crate) struct SessionUser {
    session: VaultSession,
    state: AtomicU8,
}

impl SessionUser {
    /// The session follows this clock, the supervisor's. What is fetched after it has left makes
    /// nobody a member again.
    pub(crate) fn join(&self, clock: &Clock) {
        self.session.set_clock(clock);
        if self
            .state
            .compare_exchange(NEW, IN, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            self.session.0.lock().users += 1;
        }
    }

    /// The last one turns off the light.
    pub(crate) async fn leave(&self) {
        if self.state.swap(GONE, Ordering::AcqRel) == IN {
            self.session.0.lock().users -= 1;
            self.session.0.revoke_tokens().await;
        }
    }
}

impl VaultSession {
    /// A provider of this session is in use.
    pub(crate) fn user(&self) -> SessionUser {
        SessionUser {
            session: self.clone(),
            state: AtomicU8::new(NEW),
        }
    }
}

impl Inner {
    /// Revokes what is the session's own, and forgets the rest.
    async fn revoke_tokens(&self) {
        let _updating = self.update_lock.lock().await;
        let now = self.now();
        let tokens: Vec<_> = {
            let mut state = self.lock();
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
                    self.lock().invalid.insert(token.serial());
                }
                Err(failure) => {
                    let error = failure.explain(
                        &self.place("auth/token/revoke-self"),
                        "grant `update` on auth/token/revoke-self",
                    );
                    tracing::warn!(error = %error, "the session's token was not revoked; it lives on to its end");
                }
            }
        }
    }
}
