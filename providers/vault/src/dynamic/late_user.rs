//! Users that the server created after the timeout of the request.

use std::time::Duration;

use serde::de::IgnoredAny;
use serde_json::json;

use super::{GRANT_REVOKE, is_lease_gone};
use crate::api::{Call, Envelope, Response};
use crate::session::VaultSession;

/// Pauses before the attempts to revoke a late user: at once, and twice more if that fails.
const LATE_REVOKE_PAUSES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(10),
    Duration::from_secs(60),
];

impl VaultSession {
    /// Returns a handler that revokes a user that was created after the timeout.
    pub(super) fn revoke_late_user(&self) -> impl FnOnce(Response) + Send + Sync + 'static {
        let session = self.clone();
        move |response| {
            let Ok(Envelope::<IgnoredAny> { lease_id, .. }) = response.read() else {
                return;
            };
            if lease_id.is_empty() {
                return;
            }
            tokio::spawn(async move {
                let place = session.place("sys/leases/revoke");
                for pause in LATE_REVOKE_PAUSES {
                    tokio::time::sleep(pause).await;
                    let body = || json!({ "lease_id": lease_id, "sync": true });
                    match session
                        .execute(|| Call::post("sys/leases/revoke", body()))
                        .await
                    {
                        Ok(()) => return,
                        Err(error) if error.call_error().is_some_and(is_lease_gone) => return,
                        Err(error) => {
                            let error = error.explain(&place, GRANT_REVOKE);
                            tracing::warn!(
                                error = %error,
                                "a user that was created after the timeout is not revoked yet"
                            );
                        }
                    }
                }
            });
        }
    }
}
