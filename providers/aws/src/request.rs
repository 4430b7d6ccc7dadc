//! Token: a presigned `connect` request that is never sent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials as AwsCredentials;

use crate::signer;

/// Digits of a signature in the revision: 64 of its 256 bits. They do not reveal the rest.
const REVISION_DIGITS: usize = 16;

/// The `connect` request whose presigned form is a token.
///
/// ```
/// use claviger_aws::ConnectRequest;
///
/// // Tokens that begin with `orders/?Action=connect&User=orders-app&X-Amz-Algorithm=…`
/// let request = ConnectRequest {
///     service: "elasticache",
///     region: "eu-west-1".to_owned(),
///     host: "orders".to_owned(),
///     header: "orders".to_owned(),
///     user: ("User", "orders-app".to_owned()),
///     more: None,
/// };
/// # drop(request);
/// ```
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    /// Name of the service in the signature's scope.
    pub service: &'static str,
    /// Region in the signature's scope.
    pub region: String,
    /// Start of the token, before the path: the host as written, with its port if it has one.
    pub host: String,
    /// Value of the header `host`, which is signed: in lower case, without the scheme's default
    /// port.
    pub header: String,
    /// Parameter for the user, and its value, not encoded.
    pub user: (&'static str, String),
    /// Another parameter, and its value, not encoded.
    pub more: Option<(&'static str, String)>,
}

/// A signed token. Without `Debug`, because it is a secret.
pub(crate) struct Token {
    /// Sent to the server as the password.
    pub(crate) text: String,
    /// Identifies the token without revealing it. Equal identity, request, second and lifetime give
    /// an equal revision.
    pub(crate) revision: String,
}

impl ConnectRequest {
    /// Returns the user that logs in.
    pub(crate) fn user_name(&self) -> &str {
        &self.user.1
    }

    /// Signs a token that is dated `second` and valid for `lifetime`, in whole seconds. Uses no
    /// network.
    pub(crate) fn sign(
        &self,
        credentials: &AwsCredentials,
        second: SystemTime,
        lifetime: Duration,
    ) -> Token {
        let signed = signer::presign(self, credentials, second, lifetime);
        let digits = signed.signature.get(..REVISION_DIGITS).unwrap_or_default();
        Token {
            text: format!(
                "{}/?{}&X-Amz-Signature={}",
                self.host, signed.query, signed.signature
            ),
            revision: format!("{}/{digits}", signed.date),
        }
    }
}

/// Returns the start of the second of `time`, because signatures are dated in whole seconds.
pub(crate) fn start_of_second(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}
