//! The provider, and the request that it signs for a database.

use std::fmt;

use aws_types::SdkConfig;
use claviger::error::ProviderError;
use claviger::provider::{FetchRequest, Fetched, Hints};
use claviger::{Credentials, Provider};
use claviger_aws::{ConnectRequest, Tokens};

use crate::builder::RdsIamBuilder;
use crate::host::Host;

/// Port that a header `host` omits, because it is the scheme's default.
const HTTPS: u16 = 443;

/// Signs RDS IAM authentication tokens for one database user, without a call to RDS.
///
/// - **Lifetime:** a token is valid for 15 minutes from the second in which it was signed. The
///   lease expires then, or with the AWS session that signed it (STS, IRSA, ECS, EC2) if that is
///   earlier. The next one is signed at 13:00, or when two fifteenths of a shorter lifetime are
///   left. While signing succeeds, no connection opens with a token older than 14 minutes.
/// - **Identity:** the `SdkConfig`'s chain is called for each signature, and once a minute.
///   If it returns another identity, a new token is signed. A chain that returns a new session at
///   each call is only called for signatures.
/// - **Open connections** stay usable after their token's expiry: pools adopt the next token in
///   place ([`OldConnections::Keep`](claviger::lease::OldConnections::Keep)).
/// - **Rejected tokens:** a young token of the chain's current identity is not signed again at the
///   first rejection: PAM or IAM may reject it briefly. It is signed again at the second fetch for
///   a rejection within a minute, at most once every 30 s. From half of its lifetime on, it is
///   signed again at once. While no login succeeds, the second fetch follows the first after a
///   second.
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
pub struct RdsIam(Tokens);

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
}

/// Returns the request whose presigned form is a token for this user.
pub(crate) fn connect_request(
    host: &Host,
    port: u16,
    region: String,
    user: String,
) -> ConnectRequest {
    ConnectRequest {
        service: "rds-db",
        region,
        host: format!("{}:{port}", host.written()),
        header: if port == HTTPS {
            host.signed().to_owned()
        } else {
            format!("{}:{port}", host.signed())
        },
        user: ("DBUser", user),
        more: None,
    }
}

impl RdsIam {
    pub(crate) fn from_tokens(tokens: Tokens) -> Self {
        Self(tokens)
    }
}

impl Provider for RdsIam {
    type Secret = Credentials;

    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        self.0.fetch(request).await
    }

    async fn watch(&self, hints: Hints) {
        self.0.watch(hints).await;
    }
}

impl fmt::Debug for RdsIam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let request = self.0.request();
        f.debug_struct("RdsIam")
            .field("host", &request.host)
            .field("user", &request.user.1)
            .field("region", &request.region)
            .field("lifetime", &self.0.lifetime())
            .finish_non_exhaustive()
    }
}
