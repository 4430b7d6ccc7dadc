//! Explains why a chain of AWS credentials returned none.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use claviger::error::ProviderErrorKind;

/// Longest part of a chain's own error that is included, in characters: the message of an error has
/// 500 at most, and ends with what to do.
const LONGEST_REASON: usize = 240;

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

/// Texts of the chain that say no more than the kind of its error.
const NOISE: [&str; 4] = [
    "the credential provider was not enabled: ",
    "the credentials provider was not properly configured: ",
    "an error occurred while loading credentials: ",
    "unexpected credentials error: ",
];

/// Explains why a chain of AWS credentials returned none. Returns the kind and the message of a
/// [`ProviderError`](claviger::error::ProviderError): the problem, the cause as the chain reports
/// it, and what to do. Output of a `credential_process` and quoted requests are left out.
pub fn explain(error: &CredentialsError) -> (ProviderErrorKind, String) {
    let reason = reason(error);
    let (kind, problem, action) = match error {
        // A slow metadata service returns the same error as a machine without one.
        CredentialsError::CredentialsNotLoaded(_) if reason.contains("profile `") => (
            ProviderErrorKind::Unavailable,
            "no AWS credentials were found",
            "correct the profile's name (AWS_PROFILE), or define it in the AWS configuration",
        ),
        CredentialsError::CredentialsNotLoaded(_) => (
            ProviderErrorKind::Unavailable,
            "no AWS credentials were found",
            "give the service a role (IRSA, ECS, EC2), a profile, or environment variables",
        ),
        CredentialsError::ProviderTimedOut(_) => (
            ProviderErrorKind::TimedOut,
            "the chain of AWS credentials timed out",
            "check what it calls: STS, SSO, the instance",
        ),
        CredentialsError::InvalidConfiguration(_) if reason.contains("cargo feature") => (
            ProviderErrorKind::Misconfigured,
            "the AWS configuration needs what this program was built without",
            "set the output of `aws configure export-credentials --format env`, or build the \
            program with that feature of aws-config",
        ),
        CredentialsError::InvalidConfiguration(_) => (
            ProviderErrorKind::Misconfigured,
            "the AWS configuration is invalid",
            "check the profile and the environment",
        ),
        _ if reason.contains("AccessDenied") || reason.contains("AccessDeniedException") => (
            ProviderErrorKind::Denied,
            "AWS denies assuming the role",
            "check the role's trust policy, and the caller's permission for sts:AssumeRole",
        ),
        _ if WRONG_CLOCK.iter().any(|marker| reason.contains(marker)) => (
            ProviderErrorKind::Unavailable,
            "AWS rejects the time of the request",
            "check this machine's clock",
        ),
        _ if reason.contains("Throttl") => (
            ProviderErrorKind::Throttled,
            "AWS throttles requests for credentials",
            "check whether many instances start together",
        ),
        CredentialsError::ProviderError(_) => (
            ProviderErrorKind::Unavailable,
            "AWS credentials could not be loaded",
            "check what the chain calls: STS, SSO, the instance, a process",
        ),
        _ => (
            ProviderErrorKind::Other,
            "AWS credentials could not be parsed",
            "check where the chain obtains them",
        ),
    };
    (kind, format!("{problem}: {reason}; {action}"))
}

/// Joins the texts of the error and its causes, on one line. The last ones say most.
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
    let lines: Vec<_> = reason.lines().map(str::trim).collect();
    let used: Vec<_> = lines
        .iter()
        .copied()
        .filter(|line| !is_unused(line))
        .collect();
    // If none was used, all are listed.
    let lines = if used.len() > 1 { used } else { lines };
    let mut reason = lines.join(", ").replace(":, ", ": ");
    for text in NOISE {
        reason = reason.replace(text, "");
    }
    // What follows the mark is what to do.
    let reason = reason.replace("; ", ", ");
    let printable: Vec<_> = reason.chars().filter(|c| !c.is_control()).collect();
    let left_out = printable.len().saturating_sub(LONGEST_REASON);
    let mark = if left_out == 0 { "" } else { "… " };
    mark.chars()
        .chain(printable.into_iter().skip(left_out))
        .collect()
}

/// Returns whether a line of a chain's error is that of a source which is not configured.
fn is_unused(line: &str) -> bool {
    ["not set", "not configured", "disabled by"]
        .iter()
        .any(|text| line.contains(text))
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
            let (problem, action) = (explained.problem(), explained.action());
            assert!(
                problem.contains(": ") && explained.message().ends_with(action),
                "{explained} names the cause and the remedy"
            );
        }
        assert!(
            explain(&CredentialsError::invalid_configuration("profile loops"))
                .1
                .contains("profile loops")
        );
    }

    #[test]
    fn sources_that_are_not_configured_are_left_out_beside_another() {
        let reason = |profile: &str| {
            let lines = format!(
                "no credentials found in chain. Attempted:\nEnvironment: environment variable not \
                 set\nProfile: {profile}\nEcsContainer: ECS provider not configured"
            );
            explain(&CredentialsError::not_loaded(lines)).1
        };
        let of_profile = reason("profile `prdo` was not defined");
        assert!(!of_profile.contains("Ecs"), "{of_profile}");
        assert!(
            of_profile.contains("Attempted: Profile: profile `prdo`"),
            "{of_profile}"
        );
        assert!(reason("not set").contains("Ecs"));
    }

    #[test]
    fn a_profile_of_sso_in_a_program_without_that_feature_has_a_way_out() {
        let reason = "This behavior requires following cargo feature(s) enabled: sso. ";
        let (kind, message) = explain(&CredentialsError::invalid_configuration(reason));
        assert_eq!(kind, Kind::Misconfigured);
        assert!(
            message.contains("enabled: sso") && message.contains("export-credentials"),
            "{message}"
        );
    }

    #[test]
    fn a_long_reason_leaves_room_for_what_to_do() {
        let long = CredentialsError::not_loaded("text; ".repeat(100) + "profile `prdo`");
        let (kind, message) = explain(&long);
        let error = claviger::error::ProviderError::new(kind, format!("secret: {message}"));
        assert!(error.problem().ends_with("profile `prdo`"), "{error}");
        assert!(error.action().starts_with("correct the profile"), "{error}");
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
