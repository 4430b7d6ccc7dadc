//! Users that the database engine makes, and drops when their lease ends.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use claviger::{
    Credentials, Expiry, FetchRequest, Fetched, Hints, Lease, OldConnections, Provider,
    ProviderError, ProviderErrorKind, Revision, RotationTrigger, Timestamp,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::api::{Answer, Call, Envelope, Failure};
use crate::lifetime::Life;
use crate::path::Place;
use crate::session::{self, Member, Token, Trouble, VaultSession};

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
    role: Place,
    issued: Mutex<HashMap<Revision, Issued>>,
    member: Member,
}

/// What the server said of a lease.
#[derive(Clone, Copy, Debug)]
struct Issued {
    /// The token's that it was issued by.
    serial: u64,
    life: Life,
    renewable: bool,
    /// It could not be given back, and was taken to die then.
    owed: Option<Expiry>,
}

impl Issued {
    /// With its token.
    fn expiry(&self, token: &Token) -> Expiry {
        self.life.expiry().earliest(token.expiry())
    }

    /// Whether it dies with its token rather than by itself. The server cuts the lease of a batch
    /// token, in whole seconds, of a token whose life it counts in whole seconds.
    fn is_bound_by(&self, token: &Token, now: Timestamp) -> bool {
        let cut = if token.is_batch() {
            Duration::from_secs(2)
        } else {
            Duration::ZERO
        };
        match (
            self.life.expiry().remaining(now),
            token.expiry().remaining(now),
        ) {
            (Some(lease), Some(token)) => lease.saturating_add(cut) >= token,
            (lease, token) => lease.is_none() && token.is_some(),
        }
    }
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

/// What a renewal came to.
enum Renewal {
    /// The lease has real life before it.
    Lives(Expiry),
    /// It lives until then, and its maximum is near.
    Ends(Expiry),
    /// It cannot be renewed, or is gone.
    None,
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
        let role = Place::new(mount, "role", role)?;
        Ok(Self {
            session: session.clone(),
            role,
            issued: Mutex::default(),
            member: session.member(),
        })
    }

    async fn renew(
        &self,
        held: &Lease<Credentials>,
        trigger: RotationTrigger,
    ) -> Result<Renewal, ProviderError> {
        let Some(issued) = self.issued().get(held.revision()).copied() else {
            return Ok(Renewal::None);
        };
        let token = self.session.token(true).await?;
        // Another token's leases are not ours to keep: they die with it.
        if token.serial() != issued.serial {
            return Ok(Renewal::None);
        }
        // Its token's end is what is near: another user would die with it as well.
        let now = self.session.now();
        if issued.is_bound_by(&token, now) {
            // That there is no other token is told while the pools are still served.
            return match self.session.trouble().filter(|_| token.is_stale(now)) {
                Some(error) => Err(error),
                None => Ok(Renewal::Lives(issued.expiry(&token))),
            };
        }
        // It was near, and the token was renewed.
        if trigger != RotationTrigger::Woke && !issued.life.is_stale(now) {
            return Ok(Renewal::Lives(issued.expiry(&token)));
        }
        let Some(increment) = issued.life.first().filter(|_| issued.renewable) else {
            return Ok(Renewal::None);
        };
        let asked = self.session.now();
        let body =
            || json!({ "lease_id": held.revision().as_str(), "increment": increment.as_secs() });
        let answer = self
            .session
            .ask::<Value>(false, || Call::post("sys/leases/renew", body()))
            .await;
        let (envelope, token) = match answer {
            Ok(answer) => answer,
            // Gone, past its maximum, not allowed: all of that ends in another user. So does a
            // renewal that fails because the database is down, which looks the same; the next
            // request tells.
            Err(Trouble::Failed(failure)) if failure.is_rejection() || failure.is_forbidden() => {
                return Ok(Renewal::None);
            }
            Err(trouble) => {
                return Err(trouble.explain(&self.session.place("sys/leases/renew"), GRANT_RENEW));
            }
        };
        if envelope.life().is_zero() || token.serial() != issued.serial {
            return Ok(Renewal::None);
        }
        let issued = Issued {
            life: issued.life.renewed(asked, Some(envelope.life())),
            renewable: envelope.renewable,
            ..issued
        };
        self.issued().insert(held.revision().clone(), issued);
        let expiry = issued.expiry(&token);
        Ok(if issued.life.is_capped() {
            Renewal::Ends(expiry)
        } else {
            Renewal::Lives(expiry)
        })
    }

    async fn mint(&self) -> Result<Lease<Credentials>, ProviderError> {
        let path = self.role.below("creds");
        let place = self.session.place(&path);
        let asked = self.session.now();
        let answer = self
            .session
            .ask::<User>(true, || {
                Call::get(path.clone()).when_late(self.session.late_user())
            })
            .await;
        let (envelope, token) = answer
            .map_err(|trouble| trouble.explain(&place, &format!("grant `read` on {path}")))?;
        let Envelope {
            lease_id,
            renewable,
            ..
        } = &envelope;
        let (life, revision) = (envelope.life(), Revision::new(lease_id.as_str()));
        if lease_id.is_empty() || life.is_zero() {
            return Err(malformed(
                &place,
                "what came has no lease; give the role of a database engine",
            ));
        }
        let issued = Issued {
            serial: token.serial(),
            life: Life::new(asked, Some(life)),
            renewable: *renewable,
            owed: None,
        };
        self.issued().insert(revision.clone(), issued);
        let expiry = issued.expiry(&token);
        match envelope.data {
            Some(User { username, password }) if !username.is_empty() && !password.is_empty() => {
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
        let is_dead = serial.is_some_and(|serial| self.session.is_buried(serial));
        if !is_dead {
            // A policy that forbids it costs one request.
            match self
                .session
                .tell(|| Call::post("sys/leases/revoke", body()).optional())
                .await
            {
                Ok(()) => {}
                Err(trouble) if trouble.failure().is_some_and(is_gone) => {}
                Err(trouble) => {
                    return Err(
                        trouble.explain(&self.session.place("sys/leases/revoke"), GRANT_REVOKE)
                    );
                }
            }
        }
        self.issued().remove(revision);
        Ok(())
    }

    /// A lease may outlive what was said of it: its token has been renewed since. One that could
    /// not be given back by then is given back here.
    async fn give_back_late(&self) {
        loop {
            tokio::time::sleep(LATE_LOOK).await;
            let now = self.session.now();
            let owed = |issued: &Issued| issued.owed.is_some_and(|death| death.is_expired(now));
            let late: Vec<_> = self
                .issued()
                .iter()
                .filter(|(_, issued)| owed(issued))
                .map(|(revision, _)| revision.clone())
                .collect();
            for revision in late {
                match self.revoke(&revision).await {
                    Ok(()) => {}
                    // So would the others, maybe.
                    Err(error) if error.is_transient() => break,
                    Err(_) => self.owe(&revision, None),
                }
            }
        }
    }

    fn owe(&self, revision: &Revision, death: Option<Expiry>) {
        if let Some(issued) = self.issued().get_mut(revision) {
            issued.owed = death;
        }
    }

    fn issued(&self) -> MutexGuard<'_, HashMap<Revision, Issued>> {
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        // What is never released because it died needs no place here.
        let now = self.session.now();
        issued.retain(|_, issued| !issued.life.expiry().is_expired(now));
        issued
    }
}

/// When a user who came after the time-out is given back: at once, and twice again where that
/// fails.
const LATE_PAUSES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(10),
    Duration::from_secs(60),
];
/// How often it is looked for leases that outlived what was said of them.
const LATE_LOOK: Duration = Duration::from_secs(10);
const GRANT_RENEW: &str = "grant `update` on sys/leases/renew";
const GRANT_REVOKE: &str =
    "grant `update` on sys/leases/revoke; until then leases live to their end";

fn is_gone(failure: &Failure) -> bool {
    failure.is_rejection() && failure.says(&["lease not found", "invalid lease", "lease is not"])
}

impl VaultSession {
    /// Gives back a user who comes when nobody waits for it any more.
    fn late_user(&self) -> impl FnOnce(Answer) + Send + Sync + 'static {
        let session = self.clone();
        move |answer| {
            let Ok(Envelope::<IgnoredAny> { lease_id, .. }) = answer.read() else {
                return;
            };
            if lease_id.is_empty() {
                return;
            }
            tokio::spawn(async move {
                let place = session.place("sys/leases/revoke");
                for pause in LATE_PAUSES {
                    tokio::time::sleep(pause).await;
                    let body = || json!({ "lease_id": lease_id, "sync": true });
                    match session
                        .tell(|| Call::post("sys/leases/revoke", body()))
                        .await
                    {
                        Ok(()) => return,
                        Err(trouble) if trouble.failure().is_some_and(is_gone) => return,
                        Err(trouble) => {
                            let error = trouble.explain(&place, GRANT_REVOKE);
                            tracing::warn!(error = %error, "a user came after the time-out and is not given back yet");
                        }
                    }
                }
            });
        }
    }
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
        self.member.join(request.clock());
        let keep = request.held.as_ref().filter(|held| {
            request.trigger != RotationTrigger::Manual && !request.is_rejected(held.revision())
        });
        let Some(held) = keep else {
            return self.mint().await.map(Fetched::New);
        };
        match self.renew(held, request.trigger).await? {
            Renewal::Lives(expiry) => Ok(Fetched::Renewed(expiry)),
            Renewal::None => self.mint().await.map(Fetched::New),
            Renewal::Ends(expiry) => {
                let minted = self.mint().await;
                let gained = expiry.remaining(self.session.now())
                    > held
                        .expiry()
                        .remaining(self.session.now())
                        .map(|left| left.saturating_add(left / 10));
                match minted {
                    // The last of its life is better than none. Once: the next renewal gains
                    // nothing, and the error is told.
                    Err(error) if error.is_transient() && gained => {
                        tracing::warn!(error = %error, "no new user; the old one's lease was renewed for the last time");
                        Ok(Fetched::Renewed(expiry))
                    }
                    minted => minted.map(Fetched::New),
                }
            }
        }
    }

    async fn release(&self, lease: Lease<Credentials>) -> Result<(), ProviderError> {
        let released = self.revoke(lease.revision()).await;
        if released.as_ref().is_err_and(ProviderError::is_transient) {
            self.owe(lease.revision(), Some(lease.expiry()));
        }
        released
    }

    async fn watch(&self, hints: Hints) {
        tokio::select! {
            () = self.session.keep(&hints, session::Issued::Leases) => {}
            () = self.give_back_late() => {}
        }
    }

    async fn close(&self) {
        self.member.leave().await;
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
