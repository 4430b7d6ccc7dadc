//! The identity that signs: asked of the configuration's chain for each signature, in silence.

use std::time::Duration;

use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use claviger::{ProviderError, ProviderErrorKind, quiet};

/// Within the core's default deadline of 30 s for a fetch. The instance's metadata service answers
/// or gives up in 8 s.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Asks the chain, which may ask STS, the instance or a file. Dropping it is safe.
///
/// # Errors
/// Why there are no credentials, and what to do; the chain's own errors are told by their `Display`
/// alone, for their `Debug` may hold whole replies.
pub(crate) async fn resolve(
    chain: &SharedCredentialsProvider,
) -> Result<AwsCredentials, ProviderError> {
    // The HTTP clients below write requests and replies at TRACE.
    let asked = quiet::during(chain.provide_credentials());
    match tokio::time::timeout(RESOLVE_TIMEOUT, asked).await {
        Ok(Ok(credentials)) => Ok(credentials),
        Ok(Err(error)) => {
            let (kind, explained) = claviger_aws::explain(&error);
            Err(ProviderError::new(kind, explained))
        }
        Err(_) => Err(ProviderError::new(
            ProviderErrorKind::TimedOut,
            format!(
                "the chain of AWS credentials did not answer within {} s; look at what it asks: STS, SSO, the instance",
                RESOLVE_TIMEOUT.as_secs()
            ),
        )),
    }
}

/// Whether both sign alike, whenever they end.
pub(crate) fn is_same(one: &AwsCredentials, other: &AwsCredentials) -> bool {
    let parts = |credentials: &AwsCredentials| {
        (
            credentials.access_key_id().to_owned(),
            credentials.secret_access_key().to_owned(),
            credentials.session_token().map(str::to_owned),
        )
    };
    parts(one) == parts(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_differ_by_what_they_sign_with() {
        let one = AwsCredentials::new("A", "s", Some("t".to_owned()), None, "test");
        let later = AwsCredentials::new(
            "A",
            "s",
            Some("t".to_owned()),
            Some(std::time::UNIX_EPOCH),
            "other",
        );
        assert!(is_same(&one, &later));
        for other in [
            AwsCredentials::new("B", "s", Some("t".to_owned()), None, "test"),
            AwsCredentials::new("A", "x", Some("t".to_owned()), None, "test"),
            AwsCredentials::new("A", "s", Some("u".to_owned()), None, "test"),
            AwsCredentials::new("A", "s", None, None, "test"),
        ] {
            assert!(!is_same(&one, &other));
        }
    }
}
