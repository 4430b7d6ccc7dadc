//! Users that the database engine makes, and drops when their lease ends.

mod late_user;
mod lease;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claviger::{
    Credentials, Expiry, FetchRequest, Fetched, Hints, Lease, OldConnections, Provider,
    ProviderError, ProviderErrorKind, Revision, RotationTrigger,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Call, CallError, Envelope};
use crate::lifetime::Lifetime;
use crate::path::MountPath;
use crate::session::{self, SessionError, SessionUser, VaultSession};
use lease::IssuedLease;

/// A dynamic role of the database engine: each lease is a user of its own.
///
/// The revision is the lease's id. Its death is the earlier of the lease's own and that of the
/// token it was issued by; the server drops the user then, so sessions [end with the
/// lease](OldConnections::EndWithLease).
///
/// - At 50 to 60 % of its life a lease is renewed, as long as that brings at least 90 % of its
///   first life. When it brings less, the lease has met its maximum: a new user is fetched, and the
///   old one lives on meanwhile. Leases of one hour with at most 24 hours: a new user some 23 and a
///   half hours after the last.
/// - A user whom the database rejects, or who was dropped, is replaced by a new one, never renewed.
///   So is one whose token was replaced, and so is every user on
///   [`rotate_now`](claviger::Supervisor::rotate_now).
/// - A lease is revoked when the last session of the last pool on it is closed; one that was never
///   served, at once.
///
/// What each kind of error means; the message names server and path, and says what to do:
///
/// | kind | what happened |
/// |---|---|
/// | `NotFound` | there is no such role, or no database engine at the mount |
/// | `Denied` | the policy does not allow it; or the login is rejected |
/// | `Unavailable` | Vault is sealed, a standby, down, or has a fault; or the database behind it is down |
/// | `Throttled` | a quota is used up; the server's Retry-After is kept to where it sends one |
/// | `TimedOut` | Vault did not answer in time |
/// | `Malformed` | what came is no user with a password |
/// | `Misconfigured` | a setting cannot be right; Vault's certificate does not verify |
///
/// ```
/// use claviger_vault::{Auth, VaultDynamic, VaultSession};
///
/// # fn provider() -> Result<VaultDynamic, claviger::ProviderError> {
/// let session = VaultSession::new("https://vault.internal:8200", Auth::kubernetes("orders"))?;
/// let provider = VaultDynamic::new(&session, "database", "orders")?;
/// # Ok(provider)
/// # }
/// ```
pub struct VaultDynamic {
    session: VaultSession,
    role: MountPath,
    issued: Mutex<HashMap<Revision, IssuedLease>>,
    user: SessionUser,
}

#[derive(Deserialize)]
struct UserData {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

/// What a renewal came to.
enum Renewal {
    /// The lease has real life before it.
    Renewed(Expiry),
    /// It lives until then, and its maximum is near.
    Last(Expiry),
    /// It cannot be renewed, or is gone.
    Impossible,
}

impl VaultDynamic {
    /// The role `role` of the database engine at `mount`, as `database`.
    ///
    /// # Errors
    /// `Misconfigured`, naming `mount` or `role`.
    pub fn new(
        session: &VaultSession,
        mount: impl Into<String>,
        role: impl Into<String>,
    ) -> Result<Self, ProviderError> {
        let role = MountPath::new(mount, "role", role)?;
        Ok(Self {
            session: session.clone(),
            role,
            issued: Mutex::default(),
            user: session.user(),
        })
    }

    async fn renew(
        &self,
        held: &Lease<Credentials>,
        trigger: RotationTrigger,
    ) -> Result<Renewal, ProviderError> {
        let Some(issued) = self.issued().get(held.revision()).copied() else {
            return Ok(Renewal::Impossible);
        };
        let token = self.session.token(true).await?;
        // Another token's leases are not ours to keep: they die with it.
        if token.serial() != issued.serial {
            return Ok(Renewal::Impossible);
        }
        // Its token's end is what is near: another user would die with it as well.
        let now = self.session.now();
        if issued.is_bound_by(&token, now) {
            // That there is no other token is told while the pools are still served.
            return match self.session.last_error().filter(|_| token.is_stale(now)) {
                Some(error) => Err(error),
                None => Ok(Renewal::Renewed(issued.expiry(&token))),
            };
        }
        // It was near, and the token was renewed.
        if trigger != RotationTrigger::Woke && !issued.lifetime.is_stale(now) {
            return Ok(Renewal::Renewed(issued.expiry(&token)));
        }
        let Some(increment) = issued.lifetime.first().filter(|_| issued.renewable) else {
            return Ok(Renewal::Impossible);
        };
        let sent = self.session.now();
        let body =
            || json!({ "lease_id": held.revision().as_str(), "increment": increment.as_secs() });
        let answer = self
            .session
            .request::<Value>(false, || Call::post("sys/leases/renew", body()))
            .await;
        let (envelope, token) = match answer {
            Ok(answer) => answer,
            // Gone, past its maximum, not allowed: all of that ends in another user. So does a
            // renewal that fails because the database is down, which looks the same; the next
            // request tells.
            Err(SessionError::Call(failure))
                if failure.is_rejection() || failure.is_forbidden() =>
            {
                return Ok(Renewal::Impossible);
            }
            Err(error) => {
                return Err(error.explain(&self.session.place("sys/leases/renew"), GRANT_RENEW));
            }
        };
        if envelope.lifetime().is_zero() || token.serial() != issued.serial {
            return Ok(Renewal::Impossible);
        }
        let issued = IssuedLease {
            lifetime: issued.lifetime.renewed(sent, Some(envelope.lifetime())),
            renewable: envelope.renewable,
            ..issued
        };
        self.issued().insert(held.revision().clone(), issued);
        let expiry = issued.expiry(&token);
        Ok(if issued.lifetime.is_capped() {
            Renewal::Last(expiry)
        } else {
            Renewal::Renewed(expiry)
        })
    }

    async fn create_user(&self) -> Result<Lease<Credentials>, ProviderError> {
        let path = self.role.below("creds");
        let place = self.session.place(&path);
        let sent = self.session.now();
        let answer = self
            .session
            .request::<UserData>(true, || {
                Call::get(path.clone()).when_late(self.session.revoke_late_user())
            })
            .await;
        let (envelope, token) =
            answer.map_err(|error| error.explain(&place, &format!("grant `read` on {path}")))?;
        let Envelope {
            lease_id,
            renewable,
            ..
        } = &envelope;
        let (lifetime, revision) = (envelope.lifetime(), Revision::new(lease_id.as_str()));
        if lease_id.is_empty() || lifetime.is_zero() {
            return Err(malformed(
                &place,
                "what came has no lease; give the role of a database engine",
            ));
        }
        let issued = IssuedLease {
            serial: token.serial(),
            lifetime: Lifetime::new(sent, Some(lifetime)),
            renewable: *renewable,
            revoke_after: None,
        };
        self.issued().insert(revision.clone(), issued);
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
                Err(malformed(
                    &place,
                    "what came has no user with a password; give a role whose credentials are passwords",
                ))
            }
        }
    }

    async fn revoke(&self, revision: &Revision) -> Result<(), ProviderError> {
        let serial = self.issued().get(revision).map(|issued| issued.serial);
        // At once, not in the background: only so is it known whether the user is gone.
        let body = || json!({ "lease_id": revision.as_str(), "sync": true });
        let is_token_invalid = serial.is_some_and(|serial| self.session.is_invalidated(serial));
        if !is_token_invalid {
            // A policy that forbids it costs one request.
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
        self.issued().remove(revision);
        Ok(())
    }

    /// A lease may outlive what was said of it: its token has been renewed since. One that could
    /// not be given back by then is given back here.
    async fn retry_revocations(&self) {
        loop {
            tokio::time::sleep(REVOKE_RETRY_INTERVAL).await;
            let now = self.session.now();
            let revoke_after = |issued: &IssuedLease| {
                issued
                    .revoke_after
                    .is_some_and(|death| death.is_expired(now))
            };
            let late: Vec<_> = self
                .issued()
                .iter()
                .filter(|(_, issued)| revoke_after(issued))
                .map(|(revision, _)| revision.clone())
                .collect();
            for revision in late {
                match self.revoke(&revision).await {
                    Ok(()) => {}
                    // So would the others, maybe.
                    Err(error) if error.is_transient() => break,
                    Err(_) => self.set_revoke_after(&revision, None),
                }
            }
        }
    }

    fn set_revoke_after(&self, revision: &Revision, death: Option<Expiry>) {
        if let Some(issued) = self.issued().get_mut(revision) {
            issued.revoke_after = death;
        }
    }

    fn issued(&self) -> MutexGuard<'_, HashMap<Revision, IssuedLease>> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        // What is never released because it died needs no place here.
        let now = self.session.now();
        issued.retain(|_, issued| !issued.lifetime.expiry().is_expired(now));
        issued
    }
}

/// How often it is looked for leases that outlived what was said of them.
const REVOKE_RETRY_INTERVAL: Duration = Duration::from_secs(10);
const GRANT_RENEW: &str = "grant `update` on sys/leases/renew";
const GRANT_REVOKE: &str =
    "grant `update` on sys/leases/revoke; until then leases live to their end";

fn is_lease_gone(failure: &CallError) -> bool {
    failure.is_rejection()
        && failure.mentions(&["lease not found", "invalid lease", "lease is not"])
}

fn malformed(place: &str, problem: &str) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Malformed, format!("{place}: {problem}"))
}

impl Provider for VaultDynamic {
    type Secret = Credentials;

    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        self.user.join(request.clock());
        let keep = request.held.as_ref().filter(|held| {
            request.trigger != RotationTrigger::Manual && !request.is_rejected(held.revision())
        });
        let Some(held) = keep else {
            return self.create_user().await.map(Fetched::New);
        };
        match self.renew(held, request.trigger).await? {
            Renewal::Renewed(expiry) => Ok(Fetched::Renewed(expiry)),
            Renewal::Impossible => self.create_user().await.map(Fetched::New),
            Renewal::Last(expiry) => {
                let created = self.create_user().await;
                let gained = expiry.remaining(self.session.now())
                    > held
                        .expiry()
                        .remaining(self.session.now())
                        .map(|left| left.saturating_add(left / 10));
                match created {
                    // The last of its life is better than none. Once: the next renewal gains
                    // nothing, and the error is told.
                    Err(error) if error.is_transient() && gained => {
                        tracing::warn!(error = %error, "no new user; the old one's lease was renewed for the last time");
                        Ok(Fetched::Renewed(expiry))
                    }
                    created => created.map(Fetched::New),
                }
            }
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
