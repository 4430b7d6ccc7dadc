//! A static role: one user whose password the database engine rotates.

use std::fmt;
use std::time::{Duration, Instant};

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::lease::OldConnections;
use claviger::provider::{FetchRequest, Fetched, Hints};
use claviger::{Credentials, Lease, Provider, Revision};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::sleep;

use crate::api::Call;
use crate::path::{MountPath, NO_PASSWORD, USE_PASSWORDS, error_at};
use crate::session::{LeaseBinding, SessionUser, VaultSession};

/// Time after a rotation is due at which it is polled.
const MARGIN: Duration = Duration::from_secs(1);
/// Longest pause between two polls for a rotation that is due. Pauses double from 1 s. Vault
/// rotates on a tick of 5 s, and not while the database is down.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Time for which an overdue rotation is polled for although Vault already reports the next one. A
/// role with a schedule reports that at once, even if the due one has not happened.
const OVERDUE_LIMIT: Duration = Duration::from_secs(600);
/// Pause before a rejected password is read again. Vault sets a new one in the database a few
/// milliseconds before it returns it.
const ROTATION_DELAY: Duration = Duration::from_millis(50);

/// Reads the credentials of a static role of the database engine: one user whose password is
/// rotated.
///
/// The revision is the time of the last rotation. A lease has no expiry. Open connections
/// [drain](OldConnections::Drain) after a rotation.
///
/// The role is polled one second after the next rotation is due, then after 1, 2, 4, 8 and 10 s
/// until it has happened. While the database is down, Vault returns the old password, which stays
/// in use. A role with a schedule reports the time of its next rotation before the due one has
/// happened. The due one is polled for nevertheless, for ten minutes. After a manual `rotate-role`,
/// the new password is read at the first rejected login.
///
/// ```
/// use claviger_vault::{Auth, VaultSession, VaultStatic};
///
/// # fn provider() -> Result<VaultStatic, claviger::error::ProviderError> {
/// let session = VaultSession::new("https://vault.internal:8200", Auth::kubernetes("orders"))?;
/// let provider = VaultStatic::new(&session, "database", "orders")?;
/// # Ok(provider)
/// # }
/// ```
///
/// Errors are those of [`VaultDynamic`](crate::VaultDynamic).
pub struct VaultStatic {
    session: VaultSession,
    role: MountPath,
    old_connections: OldConnections,
    next: Mutex<Option<NextRotation>>,
    user: SessionUser,
}

/// The next rotation, as it was first reported.
struct NextRotation {
    /// Revision that it replaces.
    revision: Revision,
    due: Instant,
    /// Number of polls since it was due.
    polls: u32,
}

#[derive(Deserialize)]
struct StaticCredentials {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    last_vault_rotation: Option<String>,
}

impl VaultStatic {
    /// Reads the credentials of the static role `role` of the database engine at `mount`, such as
    /// `database`.
    ///
    /// # Errors
    /// As [`VaultStaticBuilder::build`].
    pub fn new(
        session: &VaultSession,
        mount: impl Into<String>,
        role: impl Into<String>,
    ) -> Result<Self, ProviderError> {
        Self::builder(session, mount, role).build()
    }

    /// Returns a builder for the static role `role` of the database engine at `mount`.
    pub fn builder(
        session: &VaultSession,
        mount: impl Into<String>,
        role: impl Into<String>,
    ) -> VaultStaticBuilder {
        VaultStaticBuilder {
            session: session.clone(),
            mount: mount.into(),
            role: role.into(),
            old_connections: OldConnections::Drain,
        }
    }

    async fn read(&self) -> Result<(StaticCredentials, Revision), ProviderError> {
        let path = self.role.api_path("static-creds");
        let place = self.session.place(&path);
        let response = self
            .session
            .request::<StaticCredentials>(false, || Call::get(path.clone()))
            .await;
        let (envelope, _) =
            response.map_err(|error| error.explain(&place, &format!("grant `read` on {path}")))?;
        match envelope.data {
            Some(credentials)
                if !credentials.username.is_empty() && !credentials.password.is_empty() =>
            {
                let rotated = credentials
                    .last_vault_rotation
                    .as_deref()
                    .unwrap_or("never");
                let revision = Revision::new(format!(
                    "{} of {} at {rotated}",
                    credentials.username, self.role
                ));
                Ok((credentials, revision))
            }
            _ => Err(error_at(
                &place,
                ProviderErrorKind::Malformed,
                NO_PASSWORD,
                USE_PASSWORDS,
            )),
        }
    }

    /// Returns the time until the next poll. `ttl` is in seconds, and 0 for a rotation that is due.
    fn next_poll(&self, now: Instant, revision: &Revision, ttl: u64) -> Duration {
        let ttl = Duration::from_secs(ttl);
        let mut next = self.next.lock();
        let overdue = next
            .as_mut()
            .filter(|next| next.revision == *revision && next.due <= now);
        if let Some(overdue) = overdue
            && (ttl.is_zero() || now.saturating_duration_since(overdue.due) < OVERDUE_LIMIT)
        {
            return overdue.pause();
        }
        // A time beyond the clock's range needs no wait.
        let due = now.checked_add(ttl).unwrap_or(now);
        let next = next.insert(NextRotation {
            revision: revision.clone(),
            due,
            polls: 0,
        });
        if ttl.is_zero() {
            next.pause()
        } else {
            ttl.saturating_add(MARGIN)
        }
    }
}

impl NextRotation {
    fn pause(&mut self) -> Duration {
        let polls = self.polls;
        self.polls = polls.saturating_add(1);
        MARGIN.saturating_mul(1 << polls.min(10)).min(LONGEST_WAIT)
    }
}

impl Provider for VaultStatic {
    type Secret = Credentials;

    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        self.user.join(request.clock());
        let (mut credentials, mut revision) = self.read().await?;
        if request.is_rejected(&revision) {
            sleep(ROTATION_DELAY).await;
            (credentials, revision) = self.read().await?;
        }
        let refresh_after = self.next_poll(request.now().mono(), &revision, credentials.ttl);
        let lease = match request.current {
            Some(lease) if *lease.revision() == revision => lease,
            _ => Lease::new(
                Credentials::new(credentials.username, credentials.password),
                revision,
            )
            .with_old_connections(self.old_connections),
        };
        Ok(lease.with_refresh_after(refresh_after).into())
    }

    async fn watch(&self, hints: Hints) {
        self.session.maintain(&hints, LeaseBinding::None).await;
    }

    async fn close(&self) {
        self.user.leave().await;
    }
}

impl fmt::Debug for VaultStatic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("VaultStatic");
        shown
            .field("session", &self.session)
            .field("role", &self.role)
            .field("old_connections", &self.old_connections)
            .finish_non_exhaustive()
    }
}

/// Builds a [`VaultStatic`] with settings other than the defaults.
///
/// ```
/// use claviger::lease::OldConnections;
/// use claviger_vault::{Auth, VaultSession, VaultStatic};
///
/// # fn provider() -> Result<VaultStatic, claviger::error::ProviderError> {
/// let session = VaultSession::new("https://vault.internal:8200", Auth::kubernetes("orders"))?;
/// let provider = VaultStatic::builder(&session, "database", "orders")
///     .with_old_connections(OldConnections::Keep)
///     .build()?;
/// # Ok(provider)
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "call `build` to make the provider"]
pub struct VaultStaticBuilder {
    session: VaultSession,
    mount: String,
    role: String,
    old_connections: OldConnections,
}

impl VaultStaticBuilder {
    /// Sets what is done with open connections after a rotation. Default:
    /// [`OldConnections::Drain`].
    pub fn with_old_connections(mut self, old_connections: OldConnections) -> Self {
        self.old_connections = old_connections;
        self
    }

    /// Checks the settings and makes the provider. Sends no request.
    ///
    /// # Errors
    /// `Misconfigured`, naming "mount" or "role".
    pub fn build(self) -> Result<VaultStatic, ProviderError> {
        let role = MountPath::new(self.mount, "role", self.role)?;
        Ok(VaultStatic {
            user: self.session.user(),
            session: self.session,
            role,
            old_connections: self.old_connections,
            next: Mutex::default(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use claviger::lease::Timestamp;

    use super::*;
    use crate::auth::Auth;

    fn role() -> VaultStatic {
        let session = VaultSession::new("http://127.0.0.1:1", Auth::token("t")).unwrap();
        VaultStatic::new(&session, "database", "orders").unwrap()
    }

    #[test]
    fn a_due_rotation_is_polled_for_with_growing_pauses() {
        let (role, now) = (role(), Timestamp::now().mono());
        let (first, second) = (Revision::new("1"), Revision::new("2"));
        let due = now + Duration::from_secs(3_600);
        assert_eq!(
            role.next_poll(now, &first, 3_600),
            Duration::from_secs(3_601)
        );
        let waits: Vec<_> = (0..6)
            .map(|_| role.next_poll(due, &first, 0).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(role.next_poll(due, &second, 5), Duration::from_secs(6));
        assert_eq!(
            role.next_poll(due + Duration::from_secs(5), &second, 0),
            Duration::from_secs(1)
        );
    }

    /// The TTL is that of the next period from the scheduled time on. The password changes later.
    #[test]
    fn a_scheduled_rotation_is_polled_for_until_it_has_happened() {
        let (role, now) = (role(), Timestamp::now().mono());
        let (first, second) = (Revision::new("1"), Revision::new("2"));
        assert_eq!(role.next_poll(now, &first, 60), Duration::from_secs(61));
        // An early poll changes nothing but the remaining time.
        assert_eq!(
            role.next_poll(now + Duration::from_secs(30), &first, 30),
            Duration::from_secs(31)
        );
        let mut at = now + Duration::from_secs(61);
        for wait in [1, 2, 4, 8, 10] {
            assert_eq!(role.next_poll(at, &first, 3_590), Duration::from_secs(wait));
            at += Duration::from_secs(wait);
        }
        assert_eq!(
            role.next_poll(at, &second, 3_560),
            Duration::from_secs(3_561)
        );
        // After ten minutes only the next rotation is polled for.
        let due = at + Duration::from_secs(3_560);
        assert_eq!(role.next_poll(due, &second, 3_600), Duration::from_secs(1));
        assert_eq!(
            role.next_poll(due + OVERDUE_LIMIT, &second, 3_000),
            Duration::from_secs(3_001)
        );
    }
}
