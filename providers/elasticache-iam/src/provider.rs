//! The provider: tokens of one user of one cache.

use std::fmt;
use std::time::Duration;

use aws_types::SdkConfig;
use claviger::error::ProviderError;
use claviger::lease::OldConnections;
use claviger::provider::{FetchRequest, Fetched, Hints};
use claviger::{Credentials, Provider};
use claviger_aws::Tokens;

use crate::builder::ElastiCacheIamBuilder;
use crate::cache::CacheKind;

/// Treatment of connections that an earlier token opened.
pub(crate) const OLD_CONNECTIONS: OldConnections = OldConnections::Reauthenticate;

/// Time after a connection's last `AUTH` or `HELLO` at which the server ends it, as AWS states in
/// the limitations of [ElastiCache](https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/auth-iam.html#auth-iam-limits)
/// and [MemoryDB](https://docs.aws.amazon.com/memorydb/latest/devguide/auth-iam.html#auth-iam-limits).
pub(crate) const CONNECTION_LIFETIME: Duration = Duration::from_secs(12 * 3_600);

/// Signs IAM authentication tokens for one user of one ElastiCache cache or MemoryDB cluster,
/// without a call to either.
///
/// - **Lifetime:** a token is valid for 15 minutes from the second in which it was signed. The
///   lease expires then, or with the AWS session that signed it (STS, IRSA, ECS, EC2) if that is
///   earlier. The next one is signed at 13:00, or when two fifteenths of a shorter lifetime are
///   left. While signing succeeds, no connection opens with a token older than 14 minutes.
/// - **Open connections** stay usable after their token's expiry. The server ends a connection 12
///   hours after its last `AUTH` or `HELLO`. Pools authenticate them again with each new token
///   ([`OldConnections::Reauthenticate`]). If a token was signed at 0:13 and no later one can be
///   signed, open connections are handed out until 12:12. Pools whose connections cannot
///   authenticate again are replaced with each new token.
/// - **Identity:** the `SdkConfig`'s chain is called for each signature, and once a minute.
///   If it returns another identity, a new token is signed. A chain that returns a new session at
///   each call is only called for signatures.
/// - **Rejected tokens:** a young token of the chain's current identity is not signed again at the
///   first rejection, because IAM may reject it briefly. It is signed again at the second fetch for
///   a rejection within a minute, at most once every 30 s. From half of its lifetime on, it is
///   signed again at once.
/// - **Clock:** tokens are dated by the `SdkConfig`'s time source, or by the supervisor's clock if
///   it has none. If this machine's clock is 15 minutes behind AWS's, no token is accepted. Signing
///   involves no response of AWS that could show the difference, so a WARN line names the clock as
///   a possible cause.
/// - **Name:** the name of the cache is signed, not its endpoint. Pools connect to the host in
///   their own options.
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
/// use claviger_elasticache_iam::{CacheKind, ElastiCacheIam};
///
/// let aws = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
/// let provider = ElastiCacheIam::new(&aws, CacheKind::Serverless, "orders", "orders-app")?;
/// # drop(provider);
/// # Ok(())
/// # }
/// ```
pub struct ElastiCacheIam {
    kind: CacheKind,
    tokens: Tokens,
}

impl ElastiCacheIam {
    /// Signs tokens for this user of the cache of this kind and name, in the region of the
    /// `SdkConfig`. [`builder`](Self::builder) sets another region, or a shorter lifetime.
    ///
    /// # Errors
    /// As [`ElastiCacheIamBuilder::build`].
    pub fn new(
        sdk: &SdkConfig,
        kind: CacheKind,
        name: impl Into<String>,
        user: impl Into<String>,
    ) -> Result<Self, ProviderError> {
        Self::builder(sdk, kind, name, user).build()
    }

    /// Returns a builder for this user of the cache of this kind and name.
    pub fn builder(
        sdk: &SdkConfig,
        kind: CacheKind,
        name: impl Into<String>,
        user: impl Into<String>,
    ) -> ElastiCacheIamBuilder {
        ElastiCacheIamBuilder::new(sdk, kind, name.into(), user.into())
    }

    pub(crate) fn from_tokens(kind: CacheKind, tokens: Tokens) -> Self {
        Self { kind, tokens }
    }
}

impl Provider for ElastiCacheIam {
    type Secret = Credentials;

    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        self.tokens.fetch(request).await
    }

    async fn watch(&self, hints: Hints) {
        self.tokens.watch(hints).await;
    }
}

impl fmt::Debug for ElastiCacheIam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = self.tokens.request();
        f.debug_struct("ElastiCacheIam")
            .field("kind", &self.kind)
            .field("name", &request.host)
            .field("user", &request.user.1)
            .field("region", &request.region)
            .field("lifetime", &self.tokens.lifetime())
            .finish_non_exhaustive()
    }
}
