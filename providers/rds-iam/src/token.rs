//! The token: a presigned request that is never sent.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_rds::auth_token::{AuthTokenGenerator, Config};
use aws_types::region::Region;
use aws_types::sdk_config::{SdkConfig, TimeSource};
use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::quiet;
use percent_encoding::utf8_percent_encode;
use url::form_urlencoded;

use crate::host::Host;
use crate::signer;
use crate::user::{RESERVED, User};

const DATE: &str = "X-Amz-Date";
const SIGNATURE: &str = "X-Amz-Signature";

/// Digits of a signature in the revision: 64 of its 256 bits. They do not reveal the rest.
const REVISION_DIGITS: usize = 16;

/// Database user at one endpoint in one region that a token is signed for.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) region: String,
    pub(crate) user: User,
}

/// A signed token. Without `Debug`, because it is a secret.
pub(crate) struct Token {
    /// Sent to the database as the password.
    pub(crate) text: String,
    /// Identifies the token without revealing it. Equal identity, target, second and lifetime give
    /// an equal revision.
    pub(crate) revision: String,
}

/// Returns the start of the second of `time`, because signatures are dated in whole seconds.
pub(crate) fn start_of_second(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// Signs a token that is dated `second` and valid for `lifetime`, in whole seconds. Uses no
/// network.
///
/// The SDK signs, and its result is rewritten to the form of boto3. The SDK expects an encoded
/// user, writes the host in lower case and without port 443, and puts the session token after the
/// signature.
///
/// # Errors
/// Errors of the SDK. None is expected for a valid [`Target`].
pub(crate) async fn sign(
    target: &Target,
    credentials: &AwsCredentials,
    second: SystemTime,
    lifetime: Duration,
) -> Result<Token, ProviderError> {
    // The SDK's signer logs the session token at TRACE.
    if !quiet::is_possible() {
        let query = signer::signed_query(target, credentials, second, lifetime);
        return from_query(target, &query)
            .ok_or_else(|| signing_failed("a token without date or signature"));
    }
    let config = Config::builder()
        .hostname(target.host.signed())
        .port(u64::from(target.port))
        .region(Region::new(target.region.clone()))
        .username(target.user.encoded())
        .expires_in(lifetime.as_secs())
        .build()
        .map_err(|error| signing_failed(&error.to_string()))?;
    let sdk = SdkConfig::builder()
        .credentials_provider(SharedCredentialsProvider::new(credentials.clone()))
        .time_source(FixedTime(second))
        .build();
    let signed = quiet::await_quietly(AuthTokenGenerator::new(config).auth_token(&sdk)).await;
    let signed = signed.map_err(|error| signing_failed(&error.to_string()))?;
    let query = signed
        .as_str()
        .split_once('?')
        .map(|(_, query)| query)
        .unwrap_or_default();
    from_query(target, query).ok_or_else(|| signing_failed("a token without date or signature"))
}

/// Returns the token of this query in the form of boto3.
fn from_query(target: &Target, query: &str) -> Option<Token> {
    let mut text = format!("{}:{}/?", target.host.written(), target.port);
    let (mut date, mut signature) = (None, None);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if key == SIGNATURE {
            signature = Some(value);
            continue;
        }
        text.extend([&*key, "=", &*encode(&value), "&"]);
        if key == DATE {
            date = Some(value);
        }
    }
    let (date, signature) = (date?, signature?);
    text.extend([SIGNATURE, "=", &*signature]);
    Some(Token {
        text,
        revision: format!("{date}/{}", signature.get(..REVISION_DIGITS)?),
    })
}

fn encode(value: &str) -> Cow<'_, str> {
    utf8_percent_encode(value, RESERVED).into()
}

fn signing_failed(problem: &str) -> ProviderError {
    ProviderError::new(
        ProviderErrorKind::Other,
        format!("the SDK returned no token: {problem}"),
    )
}

/// A clock that returns one fixed time.
#[derive(Debug)]
struct FixedTime(SystemTime);

impl TimeSource for FixedTime {
    fn now(&self) -> SystemTime {
        self.0
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    /// With a subscriber, the SDK's signer is used. The other one is called directly.
    #[tokio::test]
    async fn both_signers_return_the_same_token() {
        let _subscriber =
            tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::default());
        assert!(quiet::is_possible());
        for (host, port) in [
            ("db.example.eu-west-1.rds.amazonaws.com", 5_432),
            ("DB.Example.com", 443),
            ("10.0.0.1", 3_306),
        ] {
            for user in [
                "orders_app",
                "first.last+x@corp",
                "größe",
                "100%",
                "a&DBUser=root",
            ] {
                for session in [None, Some("IQoJb3JpZ2luX2VjEXAMPLE+/==".to_owned())] {
                    let target = Target {
                        host: Host::parse(host).expect("a host"),
                        port,
                        region: "eu-west-1".to_owned(),
                        user: User::parse(user).expect("a user"),
                    };
                    let credentials = AwsCredentials::new(
                        "AKIAIOSFODNN7EXAMPLE",
                        "wJalrXUtnFEMI/K7MDENG",
                        session,
                        None,
                        "test",
                    );
                    let (second, lifetime) = (
                        UNIX_EPOCH + Duration::from_secs(1_795_603_199),
                        Duration::from_secs(900),
                    );
                    let theirs = sign(&target, &credentials, second, lifetime)
                        .await
                        .expect("it signs");
                    let ours = from_query(
                        &target,
                        &signer::signed_query(&target, &credentials, second, lifetime),
                    )
                    .expect("it signs");
                    assert_eq!(
                        (ours.text, ours.revision),
                        (theirs.text, theirs.revision),
                        "{host}:{port} {user}"
                    );
                }
            }
        }
    }
}
