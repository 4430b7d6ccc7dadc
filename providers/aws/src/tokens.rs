//! Tokens of one user: signs one, or returns the current lease if it is as good.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_types::SdkConfig;
use aws_types::sdk_config::SharedTimeSource;
use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::lease::{Expiry, OldConnections, Timestamp};
use claviger::provider::{FetchRequest, Fetched, Hints};
use claviger::report::RotationTrigger;
use claviger::{Credentials, Lease, Provider, Revision};
use parking_lot::Mutex;

use crate::identity;
use crate::lifetime::{self, MAX_LIFETIME, MIN_LIFETIME};
use crate::rejections::{Rejections, Verdict};
use crate::request::{ConnectRequest, start_of_second};
use crate::settings::misconfigured;

/// Time between two checks whether the chain's identity has changed since the last signature.
const IDENTITY_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Signs tokens of one [`ConnectRequest`] by a chain of AWS credentials. Providers wrap it and
/// describe it to their users.
///
/// - **Lifetime:** a token is valid for 15 minutes from the second in which it was signed. The
///   lease expires then, or with the AWS session that signed it if that is earlier. It is renewed
///   at 13:00, or when two fifteenths of a shorter lifetime are left.
/// - **Identity:** the chain is called for each signature, and once a minute. A chain that returns
///   a new session at each call is only called for signatures.
/// - **Rejected tokens:** a young token of the chain's current identity is signed again at the
///   second fetch for a rejection within a minute, at most once every 30 s. From half of its
///   lifetime on, it is signed again at once.
/// - **Clock:** tokens are dated by the `SdkConfig`'s time source, or by the supervisor's clock if
///   it has none.
///
/// Errors of a fetch name the cause in the chain of credentials, as [`explain`](crate::explain)
/// does.
pub struct Tokens {
    request: ConnectRequest,
    old_connections: OldConnections,
    connection_lifetime: Option<Duration>,
    chain: SharedCredentialsProvider,
    time_source: Option<SharedTimeSource>,
    lifetime: Duration,
    last: Mutex<Option<LastSignature>>,
    rejections: Mutex<Rejections>,
}

/// The last signed token.
#[derive(Clone)]
struct LastSignature {
    revision: Revision,
    second: SystemTime,
    /// Time at which the next signature is due.
    next_signature: SystemTime,
    identity: AwsCredentials,
}

impl Tokens {
    /// Longest lifetime that AWS accepts, and the default: 15 minutes.
    pub const MAX_LIFETIME: Duration = MAX_LIFETIME;

    /// Checks the settings. `lifetime` is from 3 s to 15 min, in whole seconds.
    ///
    /// # Errors
    /// `Misconfigured`, naming the setting and a valid value:
    /// - "lifetime": out of range
    /// - "SdkConfig": without a credentials provider
    pub fn new(
        sdk: &SdkConfig,
        request: ConnectRequest,
        lifetime: Duration,
        old_connections: OldConnections,
    ) -> Result<Self, ProviderError> {
        if !(MIN_LIFETIME..=MAX_LIFETIME).contains(&lifetime) {
            let problem = format!("must be between 3 s and 15 min, not {lifetime:?}");
            return Err(misconfigured("lifetime", &problem));
        }
        let Some(chain) = sdk.credentials_provider() else {
            return Err(misconfigured(
                "SdkConfig",
                "has no credentials provider; load it by `aws_config::load_defaults`",
            ));
        };
        Ok(Self {
            request,
            old_connections,
            connection_lifetime: None,
            chain,
            time_source: sdk.time_source(),
            lifetime: Duration::from_secs(lifetime.as_secs()),
            last: Mutex::default(),
            rejections: Mutex::default(),
        })
    }

    /// Sets how long after its last authentication the server ends a connection. Default: leases
    /// do not set it.
    #[must_use]
    pub fn with_connection_lifetime(mut self, lifetime: Duration) -> Self {
        self.connection_lifetime = Some(lifetime);
        self
    }

    /// Returns the request that is signed.
    pub fn request(&self) -> &ConnectRequest {
        &self.request
    }

    /// Returns the lifetime of a token.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Returns the time of a signature: the supervisor's, plus the difference between the
    /// configuration's time source and this machine's clock. A configuration that was loaded always
    /// has one.
    #[expect(
        clippy::disallowed_methods,
        reason = "the time source is compared with this machine's clock"
    )]
    fn signing_time(&self, supervisor: Timestamp) -> SystemTime {
        let Some(time_source) = &self.time_source else {
            return supervisor.wall();
        };
        let before = SystemTime::now();
        let source = time_source.now();
        if (before..=SystemTime::now()).contains(&source) {
            return supervisor.wall();
        }
        let corrected = match source.duration_since(before) {
            Ok(ahead) => supervisor.wall().checked_add(ahead),
            Err(behind) => supervisor.wall().checked_sub(behind.duration()),
        };
        corrected.unwrap_or(source)
    }

    fn last_signature(&self) -> Option<LastSignature> {
        self.last.lock().clone()
    }

    /// Returns the current lease if a new token would be no better.
    fn reusable_lease(
        &self,
        request: &FetchRequest<Credentials>,
        identity: &AwsCredentials,
        now: SystemTime,
    ) -> Option<Lease<Credentials>> {
        if !matches!(
            request.trigger,
            RotationTrigger::Rejected | RotationTrigger::Changed
        ) {
            return None;
        }
        let (lease, last) = (request.current.as_ref()?, self.last_signature()?);
        let age = now.duration_since(last.second).unwrap_or_default();
        let good = *lease.revision() == last.revision
            && identity::is_same(&last.identity, identity)
            && lifetime::is_young(age, self.lifetime)
            && !lease.expiry().is_expired(request.started);
        // The token may have expired by the server's clock, if this machine's is behind.
        if good
            && request.trigger == RotationTrigger::Rejected
            && self.is_rejected_again(lease.revision(), request.started)
        {
            return None;
        }
        // Counted from now. Otherwise each such fetch would postpone the next signature.
        let due = last.next_signature.duration_since(now).unwrap_or_default();
        good.then(|| lease.clone().with_refresh_after(due))
    }

    /// Returns whether a rejected young token is signed again, and logs it.
    fn is_rejected_again(&self, revision: &Revision, now: Timestamp) -> bool {
        let verdict = self.rejections.lock().record(revision, now.mono());
        let Verdict::SignAgain { warn } = verdict else {
            return false;
        };
        let (user, host) = (self.request.user_name(), &*self.request.host);
        if warn {
            tracing::warn!(
                user,
                host,
                "recently signed token rejected again; signing another; check this machine's clock"
            );
        } else {
            tracing::debug!(
                user,
                host,
                "recently signed token rejected again; signing another"
            );
        }
        true
    }

    /// Returns the second to sign in. A manual rotation waits for the next second if needed,
    /// because within one second an identity signs equal tokens.
    async fn signing_second(
        &self,
        request: &FetchRequest<Credentials>,
        identity: &AwsCredentials,
        now: SystemTime,
    ) -> SystemTime {
        let second = start_of_second(now);
        let Some(last) = self
            .last_signature()
            .filter(|last| request.trigger.requests_new() && last.second == second)
        else {
            return second;
        };
        if !identity::is_same(&last.identity, identity) {
            return second;
        }
        let next = second + Duration::from_secs(1);
        tokio::time::sleep(next.duration_since(now).unwrap_or_default()).await;
        next
    }
}

impl Provider for Tokens {
    type Secret = Credentials;

    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        // `request.started` by the clock of signatures, which may be another one.
        let started = self.signing_time(request.started);
        let identity = identity::resolve(&self.chain).await?;
        let now = self.signing_time(request.now());
        check_session(identity.expiry(), now)?;
        if let Some(lease) = self.reusable_lease(&request, &identity, now) {
            tracing::debug!(
                user = self.request.user_name(),
                "current token is as good as a new one"
            );
            return Ok(lease.into());
        }
        let second = self.signing_second(&request, &identity, now).await;
        let token = self.request.sign(&identity, second, self.lifetime);
        tracing::debug!(
            user = self.request.user_name(),
            host = &*self.request.host,
            "token signed"
        );
        let remaining = lifetime::expiry(second, self.lifetime, identity.expiry())
            .duration_since(started)
            .unwrap_or_default();
        let due = lifetime::refresh_after(remaining);
        let revision = Revision::new(token.revision);
        let signed = LastSignature {
            revision: revision.clone(),
            second,
            next_signature: now + due,
            identity,
        };
        *self.last.lock() = Some(signed);
        let credentials =
            Credentials::new(self.request.user_name(), token.text).with_password_as_token();
        let mut lease = Lease::new(credentials, revision)
            .with_expiry(Expiry::after(request.started, remaining))
            .with_old_connections(self.old_connections)
            .with_refresh_after(due);
        if let Some(lifetime) = self.connection_lifetime {
            lease = lease.with_connection_expiry(Expiry::after(request.started, lifetime));
        }
        Ok(lease.into())
    }

    async fn watch(&self, hints: Hints) {
        // Identities at the last hint: the one that had signed, and the one that was found.
        let mut hinted: Option<(AwsCredentials, AwsCredentials)> = None;
        loop {
            tokio::time::sleep(IDENTITY_CHECK_INTERVAL).await;
            let Some(last) = self.last_signature() else {
                continue;
            };
            // An error is reported by the next fetch.
            let Ok(current) = identity::resolve(&self.chain).await else {
                continue;
            };
            if identity::is_same(&last.identity, &current) {
                hinted = None;
                continue;
            }
            // A hint that caused no signature does not count, because the chain may have failed.
            if hinted.is_some_and(|(before, seen)| {
                ![before, seen]
                    .iter()
                    .any(|identity| identity::is_same(identity, &last.identity))
            }) {
                tracing::debug!(
                    user = self.request.user_name(),
                    "credentials chain returns a new session each time; called for signatures only"
                );
                return std::future::pending().await;
            }
            hinted = Some((last.identity, current));
            hints.changed();
        }
    }
}

/// Returns an error if the AWS session expires too soon to sign a usable token.
fn check_session(expiry: Option<SystemTime>, now: SystemTime) -> Result<(), ProviderError> {
    let Some(expiry) = expiry else { return Ok(()) };
    if expiry.duration_since(now).unwrap_or_default() >= lifetime::MIN_REMAINING {
        return Ok(());
    }
    let message = match now.duration_since(expiry) {
        Ok(since) => format!(
            "the AWS session credentials expired {} s ago; check why the chain returns no new ones",
            since.as_secs()
        ),
        Err(_) => {
            "the AWS session credentials are about to expire; the chain is called again".to_owned()
        }
    };
    Err(ProviderError::new(ProviderErrorKind::Unavailable, message))
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("request", &self.request)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
