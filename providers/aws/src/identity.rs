//! Identity that signs, requested from the configuration's chain for each signature.

use std::time::Duration;

use aws_credential_types::Credentials as AwsCredentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::quiet;

/// Longest time for a request to the chain, within the core's default deadline of 30 s for a fetch.
/// The instance's metadata service responds or fails within 8 s.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Requests credentials from the chain, which may call STS, the instance or read a file.
///
/// # Errors
/// Every error names the cause and what to do. Errors of the chain are shown by their
/// `Display` only, because their `Debug` may contain whole responses.
///
/// # Cancel safety
/// Dropping the future is safe.
pub(crate) async fn resolve(
    chain: &SharedCredentialsProvider,
) -> Result<AwsCredentials, ProviderError> {
    // The HTTP clients of the chain log requests and responses at TRACE.
    let resolved = quiet::await_quietly(chain.provide_credentials());
    match tokio::time::timeout(RESOLVE_TIMEOUT, resolved).await {
        Ok(Ok(credentials)) => Ok(credentials),
        Ok(Err(error)) => {
            let (kind, explained) = crate::explain(&error);
            Err(ProviderError::new(kind, explained))
        }
        Err(_) => Err(ProviderError::new(
            ProviderErrorKind::TimedOut,
            format!(
                "the chain of AWS credentials timed out after {} s; check what it calls: STS, \
                SSO, the instance",
                RESOLVE_TIMEOUT.as_secs()
            ),
        )),
    }
}

/// Returns whether both sign alike. Their expiries may differ.
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
    fn identities_differ_by_their_keys_and_session_token() {
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
