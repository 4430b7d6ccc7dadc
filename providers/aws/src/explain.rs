//! Why a chain of AWS credentials returned none.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use claviger::ProviderErrorKind;

/// Longest part of a chain's own error that is passed on, in characters.
const LONGEST_REASON: usize = 500;

/// After one of these an error may quote what it should not: what a `credential_process` wrote, and the headers of a
/// request whose signature STS rejected.
const SECRETS_FOLLOW: [&str; 4] = ["Stderr: ", "Canonical String", "x-amz-security-token", "X-Amz-Security-Token"];

/// What STS says of a request that was signed by a clock that is wrong; its message names both times.
const OF_ANOTHER_TIME: [&str; 4] = ["Signature expired", "Signature not yet current", "RequestExpired", "RequestTimeTooSkewed"];

/// Explains why a chain of AWS credentials returned none: the kind of error, what to do, and the cause as the chain
/// reports it, without what a `credential_process` wrote and without quoted requests. Makes the kind and the message of a
/// [`ProviderError`](claviger::ProviderError).
pub fn explain(error: &CredentialsError) -> (ProviderErrorKind, String) {
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
        _ if OF_ANOTHER_TIME.iter().any(|sign| reason.contains(sign)) => {
            (ProviderErrorKind::Unavailable, "AWS takes the request for one of another time; compare this machine's clock with the world's")
        }
        _ if reason.contains("Throttl") => (ProviderErrorKind::Throttled, "AWS asks for fewer requests for credentials"),
        CredentialsError::ProviderError(_) => {
            (ProviderErrorKind::Unavailable, "AWS credentials could not be loaded; they are asked for again")
        }
        _ => (ProviderErrorKind::Other, "AWS credentials could not be understood; look at what issues them"),
    };
    (kind, format!("{advice}: {reason}"))
}

/// What the error and its causes say, one after the other.
fn reason(error: &dyn Error) -> String {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(one) = cause {
        let said = one.to_string();
        let end = SECRETS_FOLLOW.iter().filter_map(|sign| said.find(sign)).min();
        let said = end.and_then(|end| said.get(..end)).unwrap_or(&said);
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
    use std::time::Duration;

    use ProviderErrorKind as Kind;

    #[test]
    fn each_error_says_what_to_do_and_whether_it_passes() {
        for (error, kind, transient) in [
            (CredentialsError::not_loaded("nothing"), Kind::Unavailable, true),
            (CredentialsError::provider_timed_out(Duration::from_secs(5)), Kind::TimedOut, true),
            (CredentialsError::invalid_configuration("profile loops"), Kind::Misconfigured, false),
            (CredentialsError::provider_error("unhandled error (AccessDenied)"), Kind::Denied, false),
            (CredentialsError::provider_error("unhandled error (Throttling)"), Kind::Throttled, true),
            (CredentialsError::provider_error("Signature expired: 1 is now earlier than 2"), Kind::Unavailable, true),
            (CredentialsError::provider_error("503"), Kind::Unavailable, true),
            (CredentialsError::unhandled("no UTF-8"), Kind::Other, true),
        ] {
            let (found, message) = explain(&error);
            let told = claviger::ProviderError::new(found, message);
            assert_eq!((told.kind(), told.is_transient()), (kind, transient), "{told}");
            assert!(told.to_string().contains("; ") || kind == Kind::Throttled, "{told} says what to do");
        }
        assert!(explain(&CredentialsError::invalid_configuration("profile loops")).1.contains("profile loops"));
    }

    #[test]
    fn what_a_process_wrote_is_left_out() {
        let error = "Error retrieving credentials: external process exited with code exit status: 1. Stderr: kestrel";
        let told = explain(&CredentialsError::provider_error(error)).1;
        assert!(told.contains("exit status: 1") && !told.contains("kestrel"), "{told}");
    }

    #[test]
    fn a_quoted_request_is_left_out() {
        let error = "SignatureDoesNotMatch: The Canonical String should have been 'POST x-amz-security-token:kestrel'";
        let explained = explain(&CredentialsError::provider_error(error)).1;
        assert!(explained.contains("SignatureDoesNotMatch") && !explained.contains("kestrel"), "{explained}");
    }
}
