//! A dynamic role: users that the database engine creates, and drops when their lease expires.

mod late_user;
mod lease;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::lease::{Expiry, OldConnections, Timestamp};
use claviger::provider::{FetchRequest, Fetched, Hints};
use claviger::report::RotationTrigger;
use claviger::{Credentials, Lease, Provider, Revision};
use parking_lot::{Mutex, MutexGuard};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Call, CallError, Envelope};
use crate::lifetime::Lifetime;
use crate::path::{MountPath, NO_PASSWORD, USE_PASSWORDS, error_at};
use crate::session::{self, SessionUser, VaultSession};
use lease::IssuedLease;

/// Creates database users by a dynamic role of the database engine: each lease is its own user.
///
/// The revision is the lease's id. A lease expires at the earlier of its own expiry and that of the
/// token that created it. The server drops the user then, so open connections
/// [end with the lease](OldConnections::EndWithLease).
///
/// - A lease is renewed at 50 to 60 % of its lifetime, while a renewal grants at least 90 % of its
///   first lifetime. If it grants less, the lease has reached its maximum: a new user is created,
///   and the old one stays valid meanwhile. With leases of 1 h and at most 24 h, a new user is
///   created every 23.5 h or so.
/// - A user is replaced, not renewed, if the database rejects it, if it was dropped, if its token
///   was replaced, or on [`rotate_now`](claviger::Supervisor::rotate_now).
/// - A lease is revoked once the last connection of the last pool that used it is closed. A lease
///   that was never used is revoked at once.
///
/// It has no settings, and so no builder.
///
/// Errors of a fetch; the message names server and path, and what to do:
///
/// | kind | cause |
/// |---|---|
/// | `NotFound` | there is no such role, or no database engine at the mount |
/// | `Denied` | the policy does not allow it, or the login to Vault is rejected; or the engine's user may not create users, or its connection does not allow the role |
/// | `Unavailable` | Vault is sealed, a standby or down, or has an internal error, or its certificate has expired; or the database behind it is down, or rejects the login of the engine's user |
/// | `Throttled` | a quota is used up; a Retry-After of the server is respected |
/// | `TimedOut` | the request timed out |
/// | `Malformed` | the response has no user with a password |
/// | `Misconfigured` | Vault's certificate is not trusted or for another host, the address has the wrong scheme, or Vault redirects elsewhere; or the database rejects a statement of the role |
///
/// ```
/// use claviger_vault::{Auth, VaultDynamic, VaultSession};
///
/// # fn provider() -> Result<VaultDynamic, claviger::error::ProviderError> {
/// let session = VaultSession::new("https://vault.internal:8200", Auth::kubernetes("orders"))?;
/// let provider = VaultDynamic::new(&session, "database", "orders")?;
/// # Ok(provider)
/// # }
/// ```
pub struct VaultDynamic {
    session: VaultSession,
    role: MountPath,
    leases: Mutex<HashMap<Revision, IssuedLease>>,
    user: SessionUser,
}

#[derive(Deserialize)]
struct UserData {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

/// Result of a renewal.
enum Renewal {
    /// The lease was renewed until this expiry.
    Renewed(Expiry),
    /// The lease was renewed until this expiry, for the last time before its maximum.
    Last(Expiry),
    /// The server did not renew the lease: it was revoked, is past its maximum, or may not be
    /// renewed. The status is the same if the database is down.
    Rejected(ProviderError),
    /// The lease cannot be renewed.
    Impossible,
}

impl VaultDynamic {
    /// Creates users by the role `role` of the database engine at `mount`, such as `database`.
    ///
    /// # Errors
    /// `Misconfigured`, naming "mount" or "role".
    pub fn new(
        session: &VaultSession,
        mount: impl Into<String>,
        role: impl Into<String>,
    ) -> Result<Self, ProviderError> {
        let role = MountPath::new(mount, "role", role)?;
        Ok(Self {
            session: session.clone(),
            role,
            leases: Mutex::default(),
            user: session.user(),
        })
    }

    async fn renew_lease(
        &self,
        lease: &Lease<Credentials>,
        request: &FetchRequest<Credentials>,
    ) -> Result<Renewal, ProviderError> {
        let Some(issued) = self.leases().get(lease.revision()).copied() else {
            return Ok(Renewal::Impossible);
        };
        let token = self.session.token(true).await?;
        // A lease of another token expires with that token and cannot be renewed.
        if token.serial() != issued.serial {
            return Ok(Renewal::Impossible);
        }
        // The token expires first. A new user would expire with it, too.
        let now = self.session.now();
        if issued.is_bound_by(&token, now) {
            // The error of the token is reported while the lease is still valid.
            return match self.session.last_error().filter(|_| token.is_stale(now)) {
                Some(error) => Err(error),
                None => Ok(Renewal::Renewed(issued.expiry(&token))),
            };
        }
        // The token was near its expiry and has just been renewed.
        if request.trigger != RotationTrigger::ClockJump && !issued.lifetime.is_stale(now) {
            return Ok(Renewal::Renewed(issued.expiry(&token)));
        }
        let Some(increment) = issued.lifetime.first().filter(|_| issued.renewable) else {
            return Ok(Renewal::Impossible);
        };
        let body =
            || json!({ "lease_id": lease.revision().as_str(), "increment": increment.as_secs() });
        let response = self
            .session
            .request::<Value>(false, || Call::post("sys/leases/renew", body()))
            .await;
        let (envelope, token) = match response {
            Ok(response) => response,
            Err(error) => {
                let is_rejection = error
                    .call_error()
                    .is_some_and(|failure| failure.is_rejection() || failure.is_forbidden());
                let error = error.explain(&self.session.place("sys/leases/renew"), GRANT_RENEW);
                return if is_rejection {
                    Ok(Renewal::Rejected(error))
                } else {
                    Err(error)
                };
            }
        };
        if envelope.lifetime().is_zero() || token.serial() != issued.serial {
            return Ok(Renewal::Impossible);
        }
        let issued = IssuedLease {
            lifetime: issued
                .lifetime
                .renewed(request.started, Some(envelope.lifetime())),
            renewable: envelope.renewable,
            ..issued
        };
        self.leases().insert(lease.revision().clone(), issued);
        let expiry = issued.expiry(&token);
        Ok(if issued.lifetime.is_capped() {
            Renewal::Last(expiry)
        } else {
            Renewal::Renewed(expiry)
        })
    }

    /// Creates a user, whose lifetime counts from `started`.
    async fn create_user(&self, started: Timestamp) -> Result<Lease<Credentials>, ProviderError> {
        let path = self.role.api_path("creds");
        let place = self.session.place(&path);
        let response = self
            .session
            .request::<UserData>(true, || {
                Call::get(path.clone()).when_late(self.session.revoke_late_user())
            })
            .await;
        let (envelope, token) =
            response.map_err(|error| error.explain(&place, &format!("grant `read` on {path}")))?;
        let Envelope {
            lease_id,
            renewable,
            ..
        } = &envelope;
        let (lifetime, revision) = (envelope.lifetime(), Revision::new(lease_id.as_str()));
        if lease_id.is_empty() || lifetime.is_zero() {
            return Err(malformed(
                &place,
                "the response has no lease",
                "use the role of a database engine",
            ));
        }
        let issued = IssuedLease {
            serial: token.serial(),
            lifetime: Lifetime::new(started, Some(lifetime)),
            renewable: *renewable,
            revoke_after: None,
        };
        self.leases().insert(revision.clone(), issued);
        let expiry = issued.expiry(&token);
        match envelope.data {
            Some(UserData { username, password })
                if !username.is_empty() && !password.is_empty() =>
            {
                Ok(Lease::new(Credentials::new(username, password), revision)
                    .with_expiry(expiry)
                    .with_old_connections(OldConnections::EndWithLease))
            }
            _ => {
                self.revoke(&revision).await?;
                Err(malformed(&place, NO_PASSWORD, USE_PASSWORDS))
            }
        }
    }

    async fn revoke(&self, revision: &Revision) -> Result<(), ProviderError> {
        let serial = self.leases().get(revision).map(|issued| issued.serial);
        // Synchronous, so that success means that the user was dropped.
        let body = || json!({ "lease_id": revision.as_str(), "sync": true });
        let is_token_invalid = serial.is_some_and(|serial| self.session.is_invalidated(serial));
        if !is_token_invalid {
            // Optional, so that a denial by the policy costs one request only.
            match self
                .session
                .execute(|| Call::post("sys/leases/revoke", body()).optional())
                .await
            {
                Ok(()) => {}
                Err(error) if error.call_error().is_some_and(is_lease_gone) => {}
                Err(error) => {
                    return Err(
                        error.explain(&self.session.place("sys/leases/revoke"), GRANT_REVOKE)
                    );
                }
            }
        }
        self.leases().remove(revision);
        Ok(())
    }

    /// Revokes leases that could not be revoked before their known expiry. They may still be valid,
    /// because their token has been renewed since.
    async fn retry_revocations(&self) {
        loop {
            tokio::time::sleep(REVOKE_RETRY_INTERVAL).await;
            let now = self.session.now();
            let revoke_after = |issued: &IssuedLease| {
                issued
                    .revoke_after
                    .is_some_and(|expiry| expiry.is_expired(now))
            };
            let late: Vec<_> = self
                .leases()
                .iter()
                .filter(|(_, issued)| revoke_after(issued))
                .map(|(revision, _)| revision.clone())
                .collect();
            for revision in late {
                match self.revoke(&revision).await {
                    Ok(()) => {}
                    // Other revocations would probably fail, too.
                    Err(error) if error.is_transient() => break,
                    Err(_) => self.set_revoke_after(&revision, None),
                }
            }
        }
    }

    fn set_revoke_after(&self, revision: &Revision, expiry: Option<Expiry>) {
        if let Some(issued) = self.leases().get_mut(revision) {
            issued.revoke_after = expiry;
        }
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<Revision, IssuedLease>> {
        let mut leases = self.leases.lock();
        // An expired lease is never released.
        let now = self.session.now();
        leases.retain(|_, issued| !issued.lifetime.expiry().is_expired(now));
        leases
    }
}

/// Time between two checks for leases that must be revoked after their known expiry.
const REVOKE_RETRY_INTERVAL: Duration = Duration::from_secs(10);
const GRANT_RENEW: &str = "grant `update` on sys/leases/renew";
const GRANT_REVOKE: &str =
    "grant `update` on sys/leases/revoke; until then leases stay valid until they expire";

fn is_lease_gone(failure: &CallError) -> bool {
    failure.is_rejection()
        && failure.mentions(&["lease not found", "invalid lease", "lease is not"])
}

fn malformed(place: &str, problem: &str, action: &str) -> ProviderError {
    error_at(place, ProviderErrorKind::Malformed, problem, action)
}

impl Provider for VaultDynamic {
    type Secret = Credentials;

    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        self.user.join(request.clock());
        let renewable = request.current.as_ref().filter(|lease| {
            !request.trigger.requests_new() && !request.is_rejected(lease.revision())
        });
        let Some(lease) = renewable else {
            return self.create_user(request.started).await.map(Fetched::New);
        };
        match self.renew_lease(lease, &request).await? {
            Renewal::Renewed(expiry) => Ok(Fetched::Renewed(expiry)),
            // If the database is down, this request fails, too.
            Renewal::Impossible | Renewal::Rejected(_) => {
                self.create_user(request.started).await.map(Fetched::New)
            }
            Renewal::Last(expiry) => {
                let created = self.create_user(request.started).await;
                let gained = expiry.remaining(self.session.now())
                    > lease
                        .expiry()
                        .remaining(self.session.now())
                        .map(|left| left.saturating_add(left / 10));
                match created {
                    // A last renewal is used once. Another one gains nothing, so the error is
                    // returned.
                    Err(error) if error.is_transient() && gained => {
                        tracing::warn!(
                            error = %error,
                            "no new user; the lease of the old one was renewed for the last time"
                        );
                        Ok(Fetched::Renewed(expiry))
                    }
                    created => created.map(Fetched::New),
                }
            }
        }
    }

    async fn renew(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Option<Expiry>, ProviderError> {
        let Some(lease) = &request.current else {
            return Ok(None);
        };
        match self.renew_lease(lease, &request).await? {
            Renewal::Renewed(expiry) | Renewal::Last(expiry) => Ok(Some(expiry)),
            Renewal::Impossible => Ok(None),
            // Transient, because another renewal may succeed.
            Renewal::Rejected(error) => Err(ProviderError::new(
                ProviderErrorKind::Unavailable,
                error.message(),
            )),
        }
    }

    async fn release(&self, lease: Lease<Credentials>) -> Result<(), ProviderError> {
        let released = self.revoke(lease.revision()).await;
        if released.as_ref().is_err_and(ProviderError::is_transient) {
            self.set_revoke_after(lease.revision(), Some(lease.expiry()));
        }
        released
    }

    async fn watch(&self, hints: Hints) {
        tokio::select! {
            () = self.session.maintain(&hints, session::LeaseBinding::ToToken) => {}
            () = self.retry_revocations() => {}
        }
    }

    async fn close(&self) {
        self.user.leave().await;
    }
}

impl fmt::Debug for VaultDynamic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultDynamic")
            .field("session", &self.session)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}
