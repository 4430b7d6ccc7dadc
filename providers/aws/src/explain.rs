//! Explains why a chain of AWS credentials returned none.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use claviger::error::ProviderErrorKind;

/// Longest part of a chain's own error that is included, in characters.
const LONGEST_REASON: usize = 500;

/// Texts after which an error may quote secrets: output of a `credential_process`, and headers of a
/// request whose signature STS rejected.
const SECRETS_AFTER: [&str; 4] = [
    "Stderr: ",
    "Canonical String",
    "x-amz-security-token",
    "X-Amz-Security-Token",
];

/// Codes and texts of STS for a request that was signed by a wrong clock; its message names both
/// times.
const WRONG_CLOCK: [&str; 4] = [
    "Signature expired",
    "Signature not yet current",
    "RequestExpired",
    "RequestTimeTooSkewed",
];

/// Explains why a chain of AWS credentials returned none. Returns the kind and the message of a
/// [`ProviderError`](claviger::error::ProviderError): what to do, and the cause as the chain
/// reports it. Output of a `credential_process` and quoted requests are left out.
pub fn explain(error: &CredentialsError) -> (ProviderErrorKind, String) {
    let reason = reason(error);
    let (kind, advice) = match error {
        // A slow metadata service returns the same error as a machine without one.
        CredentialsError::CredentialsNotLoaded(_) => (
            ProviderErrorKind::Unavailable,
            "no AWS credentials were found; give the service a role (IRSA, ECS, EC2), a profile, \
            or environment variables",
        ),
        CredentialsError::ProviderTimedOut(_) => (
            ProviderErrorKind::TimedOut,
            "the chain of AWS credentials timed out; check what it calls: STS, SSO, the instance",
        ),
        CredentialsError::InvalidConfiguration(_) => (
            ProviderErrorKind::Misconfigured,
            "the AWS configuration is invalid; check the profile and the environment",
        ),
        _ if reason.contains("AccessDenied") || reason.contains("AccessDeniedException") => (
            ProviderErrorKind::Denied,
            "AWS denies assuming the role; check the role's trust policy, and the caller's \
            permission for sts:AssumeRole",
        ),
        _ if WRONG_CLOCK.iter().any(|marker| reason.contains(marker)) => (
            ProviderErrorKind::Unavailable,
            "AWS rejects the time of the request; check this machine's clock",
        ),
        _ if reason.contains("Throttl") => (
            ProviderErrorKind::Throttled,
            "AWS throttles requests for credentials",
        ),
        CredentialsError::ProviderError(_) => (
            ProviderErrorKind::Unavailable,
            "AWS credentials could not be loaded; this is retried",
        ),
        _ => (
            ProviderErrorKind::Other,
            "AWS credentials could not be parsed; check where the chain obtains them",
        ),
    };
    (kind, format!("{advice}: {reason}"))
}

/// Joins the texts of the error and its causes.
fn reason(error: &dyn Error) -> String {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        let end = SECRETS_AFTER
            .iter()
            .filter_map(|marker| text.find(marker))
            .min();
        let text = end.and_then(|end| text.get(..end)).unwrap_or(&text);
        if !reason.contains(text) {
            reason.push_str(": ");
            reason.push_str(text);
        }
        cause = error.source();
    }
    reason
        .chars()
        .filter(|c| !c.is_control())
        .take(LONGEST_REASON)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use ProviderErrorKind as Kind;

    #[test]
    fn each_error_names_the_remedy_and_whether_it_is_transient() {
        for (error, kind, transient) in [
            (
                CredentialsError::not_loaded("nothing"),
                Kind::Unavailable,
                true,
            ),
            (
                CredentialsError::provider_timed_out(Duration::from_secs(5)),
                Kind::TimedOut,
                true,
            ),
            (
                CredentialsError::invalid_configuration("profile loops"),
                Kind::Misconfigured,
                false,
            ),
            (
                CredentialsError::provider_error("unhandled error (AccessDenied)"),
                Kind::Denied,
                false,
            ),
            (
                CredentialsError::provider_error("unhandled error (Throttling)"),
                Kind::Throttled,
                true,
            ),
            (
                CredentialsError::provider_error("Signature expired: 1 is now earlier than 2"),
                Kind::Unavailable,
                true,
            ),
            (
                CredentialsError::provider_error("503"),
                Kind::Unavailable,
                true,
            ),
            (CredentialsError::unhandled("no UTF-8"), Kind::Other, true),
        ] {
            let (found, message) = explain(&error);
            let explained = claviger::error::ProviderError::new(found, message);
            assert_eq!(
                (explained.kind(), explained.is_transient()),
                (kind, transient),
                "{explained}"
            );
            assert!(
                explained.to_string().contains("; ") || kind == Kind::Throttled,
                "{explained} names the remedy"
            );
        }
        assert!(
            explain(&CredentialsError::invalid_configuration("profile loops"))
                .1
                .contains("profile loops")
        );
    }

    #[test]
    fn output_of_a_credential_process_is_left_out() {
        let error = "Error retrieving credentials: external process exited with code exit \
                     status: 1. Stderr: kestrel";
        let explained = explain(&CredentialsError::provider_error(error)).1;
        assert!(
            explained.contains("exit status: 1") && !explained.contains("kestrel"),
            "{explained}"
        );
    }

    #[test]
    fn a_quoted_request_is_left_out() {
        let error = "SignatureDoesNotMatch: The Canonical String should have been 'POST \
                     x-amz-security-token:kestrel'";
        let explained = explain(&CredentialsError::provider_error(error)).1;
        assert!(
            explained.contains("SignatureDoesNotMatch") && !explained.contains("kestrel"),
            "{explained}"
        );
    }
}
