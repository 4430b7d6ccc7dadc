//! The identity that signs: asked of the configuration's chain for each signature, in silence.

use std::error::Error;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use claviger::{ProviderError, ProviderErrorKind, quiet};

/// Within the core's default deadline of 30 s for a fetch. The instance's metadata service answers or gives up in 8 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a chain's error says is of no use beyond that.
const LONGEST_REASON: usize = 500;

/// Asks the chain, which may ask STS, the instance or a file. Dropping it is safe.
///
/// # Errors
/// Why there are no credentials, and what to do; the chain's own errors are told by their `Display` alone, for their `Debug` may hold whole replies.
pub(crate) async fn resolve(chain: &SharedCredentialsProvider) -> Result<Credentials, ProviderError> {
    // The HTTP clients below write requests and replies at TRACE.
    let asked = quiet::during(chain.provide_credentials());
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(credentials)) => Ok(credentials),
        Ok(Err(error)) => Err(explained(&error)),
        Err(_) => Err(ProviderError::new(
            ProviderErrorKind::TimedOut,
            format!(
                "the chain of AWS credentials did not answer within {} s; look at what it asks: STS, SSO, the instance",
                PATIENCE.as_secs()
            ),
        )),
    }
}

/// Whether both sign alike, whenever they end.
pub(crate) fn is_same(one: &Credentials, other: &Credentials) -> bool {
    let parts = |credentials: &Credentials| {
        (credentials.access_key_id().to_owned(), credentials.secret_access_key().to_owned(), credentials.session_token().map(str::to_owned))
    };
    parts(one) == parts(other)
}

fn explained(error: &CredentialsError) -> ProviderError {
    let reason = reason(error);
    let (kind, advice) = match error {
        // A metadata service that is slow says the same as a machine that has none.
        CredentialsError::CredentialsNotLoaded(_) => (
            ProviderErrorKind::Unavailable,
            "no AWS credentials were found; give the service a role (IRSA, ECS, EC2), a profile, or environment variables",
        ),
        CredentialsError::ProviderTimedOut(_) => {
            (ProviderErrorKind::TimedOut, "the chain of AWS credentials timed out; look at what it asks: STS, SSO, the instance")
        }
        CredentialsError::InvalidConfiguration(_) => {
            (ProviderErrorKind::Misconfigured, "the AWS configuration cannot be right; look at the profile and the environment")
        }
        _ if reason.contains("AccessDenied") || reason.contains("AccessDeniedException") => (
            ProviderErrorKind::Denied,
            "AWS forbids it to assume the role; look at the role's trust policy, and at the caller's right to sts:AssumeRole",
        ),
        _ if reason.contains("Throttl") => (ProviderErrorKind::Throttled, "AWS asks for fewer requests for credentials"),
        CredentialsError::ProviderError(_) => {
            (ProviderErrorKind::Unavailable, "AWS credentials could not be loaded; they are asked for again")
        }
        _ => (ProviderErrorKind::Other, "AWS credentials could not be understood; look at what issues them"),
    };
    ProviderError::new(kind, format!("{advice}: {reason}"))
}

/// What the error and its causes say, one after the other.
fn reason(error: &dyn Error) -> String {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(one) = cause {
        let said = one.to_string();
        // What a `credential_process` wrote may be what it should have written elsewhere.
        let said = said.split_once("Stderr: ").map_or(&*said, |(said, _)| said);
        if !reason.contains(said) {
            reason.push_str(": ");
            reason.push_str(said);
        }
        cause = one.source();
    }
    reason.chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProviderErrorKind as Kind;

    #[test]
    fn each_error_says_what_to_do_and_whether_it_passes() {
        for (error, kind, transient) in [
            (CredentialsError::not_loaded("nothing"), Kind::Unavailable, true),
            (CredentialsError::provider_timed_out(Duration::from_secs(5)), Kind::TimedOut, true),
            (CredentialsError::invalid_configuration("profile loops"), Kind::Misconfigured, false),
            (CredentialsError::provider_error("unhandled error (AccessDenied)"), Kind::Denied, false),
            (CredentialsError::provider_error("unhandled error (Throttling)"), Kind::Throttled, true),
            (CredentialsError::provider_error("503"), Kind::Unavailable, true),
            (CredentialsError::unhandled("no UTF-8"), Kind::Other, true),
        ] {
            let told = explained(&error);
            assert_eq!((told.kind(), told.is_transient()), (kind, transient), "{told}");
            assert!(told.to_string().contains("; ") || kind == Kind::Throttled, "{told} says what to do");
        }
        assert!(explained(&CredentialsError::invalid_configuration("profile loops")).to_string().contains("profile loops"));
    }

    #[test]
    fn what_a_process_wrote_is_left_out() {
        let error = "Error retrieving credentials: external process exited with code exit status: 1. Stderr: kestrel";
        let told = explained(&CredentialsError::provider_error(error)).to_string();
        assert!(told.contains("exit status: 1") && !told.contains("kestrel"), "{told}");
    }

    #[test]
    fn identities_differ_by_what_they_sign_with() {
        let one = Credentials::new("A", "s", Some("t".to_owned()), None, "test");
        let later = Credentials::new("A", "s", Some("t".to_owned()), Some(std::time::UNIX_EPOCH), "other");
        assert!(is_same(&one, &later));
        for other in [
            Credentials::new("B", "s", Some("t".to_owned()), None, "test"),
            Credentials::new("A", "x", Some("t".to_owned()), None, "test"),
            Credentials::new("A", "s", Some("u".to_owned()), None, "test"),
            Credentials::new("A", "s", None, None, "test"),
        ] {
            assert!(!is_same(&one, &other));
        }
    }
}
