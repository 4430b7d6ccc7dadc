//! The provider: signs a token, or returns the current lease if it is as good.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

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

use crate::builder::RdsIamBuilder;
use crate::token::Target;
use crate::{identity, lifetime, token};

/// Time between two checks whether the chain's identity has changed since the last signature.
const IDENTITY_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Shortest time between two WARN lines on rejected young tokens.
const WARN_INTERVAL: Duration = Duration::from_secs(3_600);

/// Signs RDS IAM authentication tokens for one database user, without a call to RDS.
///
/// - **Lifetime:** a token is valid for 15 minutes from the second in which it was signed. The
///   lease expires then, or with the AWS session that signed it (STS, IRSA, ECS, EC2) if that is
///   earlier. It is renewed at 13:00, or when two fifteenths of a shorter lifetime are left. While
///   renewals succeed, no connection opens with a token older than 14 minutes.
/// - **Identity:** the `SdkConfig`'s chain is called for each signature, and once a minute.
///   If it returns another identity, a new token is signed. A chain that returns a new session at
///   each call is only called for signatures.
/// - **Open connections** stay usable after their token's expiry ([`OldConnections::Keep`]): pools
///   adopt the next token in place.
/// - **Rejected tokens:** a young token of the chain's current identity is not signed again at the
///   first rejection: PAM or IAM may reject it briefly. It is signed again at the second fetch for
///   a rejection within a minute, at most once in 30 s. From half of its lifetime on, it is signed
///   again at once. While no login succeeds, the second fetch follows the first after a second.
/// - **Clock:** tokens are dated by the `SdkConfig`'s time source, or by the supervisor's clock if
///   it has none. If this machine's clock is 15 minutes behind the database's, no token is
///   accepted. Signing involves no response of AWS that could show the difference, so the error and
///   a WARN line name the clock as a possible cause.
/// - **Host:** the endpoint as AWS shows it. It is signed, not connected to. Pools connect to the
///   host in their own connect options: set a tunnel or proxy there, and the endpoint here.
///
/// Errors of a fetch:
///
/// | kind | the credentials chain |
/// |---|---|
/// | `Unavailable` | has no credentials yet, could not be reached, or has a session about to expire |
/// | `TimedOut` | did not return within 20 s |
/// | `Throttled` | was throttled |
/// | `Denied` | may not assume the role |
/// | `Misconfigured` | has invalid settings |
/// | `Other` | returned an unknown error |
///
/// `Denied` and `Misconfigured` end a registration at once. Later the current lease stays in use
/// until it expires. No error, log line or `Debug` form contains a credential.
///
/// ```
/// # async fn provider() -> Result<(), claviger::error::ProviderError> {
/// use claviger_rds_iam::RdsIam;
///
/// let aws = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
/// let endpoint = "orders.c1a2b3.eu-west-1.rds.amazonaws.com";
/// let provider = RdsIam::new(&aws, endpoint, 5432, "orders_app")?;
/// # drop(provider);
/// # Ok(())
/// # }
/// ```
pub struct RdsIam {
    target: Target,
    chain: SharedCredentialsProvider,
    time_source: Option<SharedTimeSource>,
    lifetime: Duration,
    last: Mutex<Option<LastSignature>>,
    rejections: Mutex<Rejections>,
}

/// State of rejections.
#[derive(Default)]
struct Rejections {
    token: Option<RejectedToken>,
    /// Time at which a young token was last signed again because of rejections.
    signed_again: Option<Instant>,
    /// Time at which that was last logged at WARN.
    warned: Option<Instant>,
}

/// The token that the database rejected last.
struct RejectedToken {
    revision: Revision,
    /// Time of the last fetch for a rejection.
    last: Instant,
}

/// The last signed token.
#[derive(Clone)]
struct LastSignature {
    revision: Revision,
    second: SystemTime,
    /// Time at which the next signature is due.
    renewal: SystemTime,
    identity: AwsCredentials,
}

impl RdsIam {
    /// Signs tokens for this user of the database at this endpoint, the name of an instance,
    /// cluster or proxy as AWS shows it: `orders.c1a2b3.eu-west-1.rds.amazonaws.com`.
    ///
    /// The region is that of the `SdkConfig` or of the endpoint's name. If both have one, they must
    /// agree. [`builder`](Self::builder) sets the region of any other host, or a shorter lifetime.
    ///
    /// # Errors
    /// As [`RdsIamBuilder::build`].
    pub fn new(
        sdk: &SdkConfig,
        host: impl Into<String>,
        port: u16,
        user: impl Into<String>,
    ) -> Result<Self, ProviderError> {
        Self::builder(sdk, host, port, user).build()
    }

    /// Returns a builder for this user of the database at this endpoint.
    pub fn builder(
        sdk: &SdkConfig,
        host: impl Into<String>,
        port: u16,
        user: impl Into<String>,
    ) -> RdsIamBuilder {
        RdsIamBuilder::new(sdk, host, port, user)
    }

    pub(crate) fn from_settings(
        target: Target,
        chain: SharedCredentialsProvider,
        time_source: Option<SharedTimeSource>,
        lifetime: Duration,
    ) -> Self {
        Self {
            target,
            chain,
            time_source,
            lifetime,
            last: Mutex::default(),
            rejections: Mutex::default(),
        }
    }

    /// Returns the time of a signature: the supervisor's, corrected by what the configuration's time
    /// source differs from this machine's clock. A configuration that was loaded always has one.
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
        // The token may have expired by the database's clock, if this machine's is behind.
        if good
            && request.trigger == RotationTrigger::Rejected
            && self.is_rejected_again(lease.revision(), request.started.mono())
        {
            return None;
        }
        // Counted from now. Otherwise each such fetch would postpone the renewal.
        let due = last.renewal.duration_since(now).unwrap_or_default();
        good.then(|| lease.clone().with_refresh_after(due))
    }

    /// Returns whether a rejected young token is signed again. It is at the second fetch for a
    /// rejection within a minute, at most once in half a minute.
    ///
    /// Times are monotonic, because the wall clock may be wrong, and may be set meanwhile.
    fn is_rejected_again(&self, revision: &Revision, now: Instant) -> bool {
        let mut rejected = self.rejections.lock();
        let before = rejected.token.replace(RejectedToken {
            revision: revision.clone(),
            last: now,
        });
        let again = before.is_some_and(|before| {
            before.revision == *revision
                && now.saturating_duration_since(before.last) <= lifetime::REJECTION_WINDOW
        });
        let is_within = |last: Option<Instant>, span| {
            last.is_some_and(|last| now.saturating_duration_since(last) < span)
        };
        if !again || is_within(rejected.signed_again, lifetime::RESIGN_INTERVAL) {
            return false;
        }
        rejected.signed_again = Some(now);
        let warn = !is_within(rejected.warned, WARN_INTERVAL);
        if warn {
            rejected.warned = Some(now);
        }
        drop(rejected);
        let (user, host) = (self.target.user.name(), self.target.host.written());
        if warn {
            tracing::warn!(
                user,
                host,
                "young token still rejected and signed again; check this machine's clock"
            );
        } else {
            tracing::debug!(user, host, "young token still rejected and signed again");
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
        let second = token::start_of_second(now);
        let Some(last) = self
            .last_signature()
            .filter(|last| request.trigger == RotationTrigger::Manual && last.second == second)
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

impl Provider for RdsIam {
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
                user = self.target.user.name(),
                "current token is as good as a new one"
            );
            return Ok(lease.into());
        }
        let second = self.signing_second(&request, &identity, now).await;
        let token = token::sign(&self.target, &identity, second, self.lifetime).await?;
        tracing::debug!(
            user = self.target.user.name(),
            host = self.target.host.written(),
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
            renewal: now + due,
            identity,
        };
        *self.last.lock() = Some(signed);
        let credentials =
            Credentials::new(self.target.user.name(), token.text).with_password_as_token();
        Ok(Lease::new(credentials, revision)
            .with_expiry(Expiry::after(request.started, remaining))
            .with_old_connections(OldConnections::Keep)
            .with_refresh_after(due)
            .into())
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
            // A hint that caused no signature, because the chain failed, shows nothing about the
            // chain.
            if hinted.is_some_and(|(before, seen)| {
                ![before, seen]
                    .iter()
                    .any(|identity| identity::is_same(identity, &last.identity))
            }) {
                tracing::debug!(
                    user = self.target.user.name(),
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

impl fmt::Debug for RdsIam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RdsIam")
            .field("host", &self.target.host.written())
            .field("port", &self.target.port)
            .field("user", &self.target.user.name())
            .field("region", &self.target.region)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
