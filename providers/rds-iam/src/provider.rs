//! The provider: when it signs, and when what is held will do.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_types::SdkConfig;
use aws_types::sdk_config::SharedTimeSource;
use claviger::{
    Credentials, Expiry, FetchRequest, Fetched, Hints, Lease, OldConnections, Provider,
    ProviderError, ProviderErrorKind, Revision, RotationTrigger,
};

use crate::builder::RdsIamBuilder;
use crate::token::Target;
use crate::{identity, lifetime, token};

/// How often the chain is asked whether its identity is still the one that signed.
const IDENTITY_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Shortest time between two WARN lines on rejected young tokens.
const WARN_INTERVAL: Duration = Duration::from_secs(3_600);

/// Signs RDS IAM authentication tokens for one database user, without a call to RDS.
///
/// - **A token** lives 15 minutes from the second in which it was signed, and no longer than the
///   session that signed it (STS, IRSA, ECS, EC2): the lease's expiry is the earlier of the two. It
///   is renewed at 13:00, or when two fifteenths of a shorter life are left, so that no connection
///   opens with one older than 14 minutes while renewals succeed, and none with a dead one.
/// - **The identity** is asked of the `SdkConfig`'s chain for each signature, and once a minute
///   besides: when the chain has another one, the token is signed anew. A chain that answers with a
///   new session whenever it is asked is not asked besides.
/// - **Sessions stay good** when their token dies ([`OldConnections::Keep`]): pools take the next
///   token in place.
/// - **A rejected token** that is young and whose identity is still the chain's is not signed
///   again at the first rejection. PAM or IAM may reject it for a moment only. It is signed anew at
///   the second fetch for a rejection within a minute (once in 30 s), and from half of its lifetime
///   on at once. While no login works, the second fetch comes a second after the first.
///   This machine's clock may be behind the database's. If it is 15 minutes behind, no token is
///   accepted. Signing involves no response of AWS that could show the difference, so the error
///   and a WARN line name the clock as a possible cause.
/// - **The host** is that of the endpoint as AWS shows it; it is signed, and connected to by nobody
///   here. Pools connect to the host in their own connect options: through a tunnel or a proxy of
///   one's own give that one there, and the endpoint here.
///
/// What each kind of error means:
///
/// | kind | the chain of credentials |
/// |---|---|
/// | `Unavailable` | has none yet, could not be reached, or has a session about to end |
/// | `TimedOut` | did not answer within 20 s |
/// | `Throttled` | was asked for fewer requests |
/// | `Denied` | may not assume the role |
/// | `Misconfigured` | has settings that cannot be right; or an argument here cannot be |
/// | `Other` | answered what cannot be understood |
///
/// `Denied` and `Misconfigured` end a registration at once; later what is held goes on serving to
/// its end. No error, log line or `Debug` carries a credential.
pub struct RdsIam {
    target: Target,
    chain: SharedCredentialsProvider,
    time: Option<SharedTimeSource>,
    lifetime: Duration,
    last: Mutex<Option<LastSignature>>,
    rejections: Mutex<Rejections>,
}

/// State of rejections.
#[derive(Default)]
struct Rejections {
    token: Option<RejectedToken>,
    /// When a young token was last signed anew because it was rejected again.
    signed_anew: Option<Instant>,
    /// When that was last logged at WARN.
    warned: Option<Instant>,
}

/// The token that the database rejected last.
struct RejectedToken {
    revision: Revision,
    /// When the last fetch was requested.
    last: Instant,
}

/// The last signature.
#[derive(Clone)]
struct LastSignature {
    revision: Revision,
    second: SystemTime,
    /// When the next one is due.
    renewal: SystemTime,
    by: AwsCredentials,
}

impl RdsIam {
    /// For the user `user` of the database at this endpoint:
    /// `orders.c1a2b3.eu-west-1.rds.amazonaws.com` or a cluster's or proxy's, as AWS shows it.
    ///
    /// The region is the `SdkConfig`'s or the one in the endpoint's name; where both are there,
    /// they must agree. For a host whose name has none, or a shorter lifetime, see
    /// [`builder`](Self::builder).
    ///
    /// # Errors
    /// `Misconfigured`, naming the argument and what would be right; see [`RdsIamBuilder::build`].
    pub fn new(
        sdk: &SdkConfig,
        host: impl Into<String>,
        port: u16,
        user: impl Into<String>,
    ) -> Result<Self, ProviderError> {
        Self::builder(sdk, host, port, user).build()
    }

    /// The same, with more to say.
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
        time: Option<SharedTimeSource>,
        lifetime: Duration,
    ) -> Self {
        Self {
            target,
            chain,
            time,
            lifetime,
            last: Mutex::default(),
            rejections: Mutex::default(),
        }
    }

    /// The configuration's clock signs; without one, the supervisor's.
    fn now(&self, request: &FetchRequest<Credentials>) -> SystemTime {
        self.time
            .as_ref()
            .map_or(request.started.wall(), SharedTimeSource::now)
    }

    fn last_signature(&self) -> Option<LastSignature> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The held lease, if a token signed now would be no better.
    fn reusable_lease(
        &self,
        request: &FetchRequest<Credentials>,
        by: &AwsCredentials,
        now: SystemTime,
    ) -> Option<Lease<Credentials>> {
        if !matches!(
            request.trigger,
            RotationTrigger::Rejected | RotationTrigger::Changed
        ) {
            return None;
        }
        let (held, last) = (request.held.as_ref()?, self.last_signature()?);
        let age = now.duration_since(last.second).unwrap_or_default();
        let good = *held.revision() == last.revision
            && identity::is_same(&last.by, by)
            && lifetime::is_young(age, self.lifetime)
            && !held.expiry().is_expired(request.started);
        // The token may have expired by the database's clock, if this machine's is behind.
        if good
            && request.trigger == RotationTrigger::Rejected
            && self.is_rejected_again(held.revision(), request.started.mono())
        {
            return None;
        }
        // Counted from now, or each such answer would put the renewal off.
        let due = last.renewal.duration_since(now).unwrap_or_default();
        good.then(|| held.clone().with_refresh_after(due))
    }

    /// Returns whether a rejected young token is signed anew: at the second fetch for a rejection
    /// within a minute, if none was signed for that reason within half a minute.
    ///
    /// Times are monotonic, because the wall clock is what may be wrong, and may be set meanwhile.
    fn is_rejected_again(&self, revision: &Revision, now: Instant) -> bool {
        let mut rejected = self
            .rejections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = rejected.token.replace(RejectedToken {
            revision: revision.clone(),
            last: now,
        });
        let again = before.is_some_and(|one| {
            one.revision == *revision
                && now.saturating_duration_since(one.last) <= lifetime::REJECTION_WINDOW
        });
        let is_within = |last: Option<Instant>, span| {
            last.is_some_and(|last| now.saturating_duration_since(last) < span)
        };
        if !again || is_within(rejected.signed_anew, lifetime::RESIGN_INTERVAL) {
            return false;
        }
        rejected.signed_anew = Some(now);
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
                "young token still rejected and signed anew; check this machine's clock"
            );
        } else {
            tracing::debug!(user, host, "young token still rejected and signed anew");
        }
        true
    }

    /// The second to sign in. Whoever demands a new token gets one: within one second the same
    /// identity signs the same token.
    async fn signing_second(
        &self,
        request: &FetchRequest<Credentials>,
        by: &AwsCredentials,
        now: SystemTime,
    ) -> SystemTime {
        let second = token::start_of_second(now);
        let Some(last) = self
            .last_signature()
            .filter(|last| request.trigger == RotationTrigger::Manual && last.second == second)
        else {
            return second;
        };
        if !identity::is_same(&last.by, by) {
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
        // The moment of `request.started` by the clock that signs, which may be another.
        let started = self.now(&request);
        let by = identity::resolve(&self.chain).await?;
        let now = self.now(&request);
        check_session(by.expiry(), now)?;
        if let Some(held) = self.reusable_lease(&request, &by, now) {
            tracing::debug!(
                user = self.target.user.name(),
                "the held token is as good as another"
            );
            return Ok(held.into());
        }
        let second = self.signing_second(&request, &by, now).await;
        let token = token::sign(&self.target, &by, second, self.lifetime).await?;
        tracing::debug!(
            user = self.target.user.name(),
            host = self.target.host.written(),
            "a token was signed"
        );
        let life = lifetime::expiry(second, self.lifetime, by.expiry())
            .duration_since(started)
            .unwrap_or_default();
        let due = lifetime::refresh_after(life);
        let revision = Revision::new(token.name);
        let signed = LastSignature {
            revision: revision.clone(),
            second,
            renewal: now + due,
            by,
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(signed);
        let credentials = Credentials::new(self.target.user.name(), token.text).token();
        Ok(Lease::new(credentials, revision)
            .with_expiry(Expiry::after(request.started, life))
            .with_old_connections(OldConnections::Keep)
            .with_refresh_after(due)
            .into())
    }

    async fn watch(&self, hints: Hints) {
        // What signed when another identity was seen, and that one.
        let mut hinted: Option<(AwsCredentials, AwsCredentials)> = None;
        loop {
            tokio::time::sleep(IDENTITY_CHECK_INTERVAL).await;
            let Some(last) = self.last_signature() else {
                continue;
            };
            // What fails here fails again when a token is due, and is told then.
            let Ok(now) = identity::resolve(&self.chain).await else {
                continue;
            };
            if identity::is_same(&last.by, &now) {
                hinted = None;
                continue;
            }
            // A hint that was not followed yet (the chain failed when it was asked again) says
            // nothing about the chain.
            if hinted.is_some_and(|(before, seen)| {
                ![before, seen]
                    .iter()
                    .any(|one| identity::is_same(one, &last.by))
            }) {
                tracing::debug!(
                    user = self.target.user.name(),
                    "the chain issues a new session each time; it is asked when a token is due"
                );
                return std::future::pending().await;
            }
            hinted = Some((last.by, now));
            hints.changed();
        }
    }
}

/// A session that is about to end signs nothing that could serve.
fn check_session(end: Option<SystemTime>, now: SystemTime) -> Result<(), ProviderError> {
    let Some(end) = end else { return Ok(()) };
    if end.duration_since(now).unwrap_or_default() >= lifetime::MIN_REMAINING {
        return Ok(());
    }
    let message = match now.duration_since(end) {
        Ok(since) => format!(
            "the AWS session credentials ended {} s ago; the chain has to issue new ones",
            since.as_secs()
        ),
        Err(_) => "the AWS session credentials are about to end; the chain is asked for new ones"
            .to_owned(),
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
