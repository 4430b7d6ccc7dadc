//! The identity in use at AWS.

use std::time::Duration;

use aws_credential_types::provider::ProvideCredentials as _;
use aws_sdk_sts::config::Region;
use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_sts::operation::get_caller_identity::GetCallerIdentityError;
use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::quiet;
use claviger_config::{Backend, Connection};
use tokio::time::timeout;

use crate::finding::{Finding, Step, one_line};

/// Longest time of the chain of credentials, and of the request to STS.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Result of the request for the signing identity.
pub(super) enum Identity {
    Known(String),
    /// The chain has no credentials.
    Unloaded(ProviderError),
    /// STS rejects the request, with this code.
    Rejected(String),
    /// STS was not reached.
    Unknown(String),
}

/// Returns the region of the connection's tokens, or that of AWS's configuration.
pub(super) fn region(connection: &Connection) -> Option<String> {
    let of_tokens = match connection.backend() {
        Backend::RdsIam { host, region } => region
            .as_deref()
            .or_else(|| claviger_rds_iam::region_of_endpoint(host)),
        _ => None,
    };
    let of_aws = || connection.aws()?.region().map(AsRef::as_ref);
    of_tokens.or_else(of_aws).map(str::to_owned)
}

/// Requests credentials from the chain, and their identity from STS.
///
/// # Cancel safety
/// Dropping the future is safe.
pub(super) async fn identity(connection: &Connection) -> Identity {
    let Some(aws) = connection.aws() else {
        return Identity::Unknown("no configuration of AWS was loaded".to_owned());
    };
    let Some(chain) = aws.credentials_provider() else {
        let explained = "the configuration of AWS has no credentials; give this command a role, a \
            profile, or environment variables";
        let error = ProviderError::new(ProviderErrorKind::Misconfigured, explained);
        return Identity::Unloaded(error);
    };
    // The HTTP clients log requests and responses at TRACE.
    let loaded = quiet::await_quietly(chain.provide_credentials());
    match timeout(TIMEOUT, loaded).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            let (kind, explained) = claviger_aws::explain(&error);
            return Identity::Unloaded(ProviderError::new(kind, explained));
        }
        Err(_) => {
            let explained = "the chain of AWS credentials timed out after 20 s; check what it \
                calls: STS, SSO, the instance";
            return Identity::Unloaded(ProviderError::new(ProviderErrorKind::TimedOut, explained));
        }
    }
    let region = region(connection).map(Region::new);
    let aws = aws.clone().into_builder().region(region).build();
    let client = aws_sdk_sts::Client::new(&aws);
    let request = quiet::await_quietly(client.get_caller_identity().send());
    match timeout(TIMEOUT, request).await {
        Ok(Ok(caller)) => Identity::Known(caller.arn().unwrap_or("unnamed").to_owned()),
        Ok(Err(error)) => of_error(&error),
        Err(_) => Identity::Unknown("STS did not respond within 20 s".to_owned()),
    }
}

/// Classifies by the code alone: messages quote parts of the request.
fn of_error(error: &SdkError<GetCallerIdentityError, HttpResponse>) -> Identity {
    match error.as_service_error().and_then(|error| error.code()) {
        Some(code) => Identity::Rejected(code.to_owned()),
        None => Identity::Unknown("STS cannot be reached from here".to_owned()),
    }
}

pub(super) fn identity_finding(identity: &Identity) -> Finding {
    match identity {
        Identity::Known(arn) => Finding::ok(Step::Identity, one_line(arn)),
        Identity::Unknown(reason) => {
            Finding::note(Step::Identity, "identity_unknown", one_line(reason))
        }
        Identity::Unloaded(reason) => {
            let detail = one_line(reason.problem());
            Finding::problem(Step::Identity, "no_aws_credentials", detail)
                .with_next(one_line(reason.action()))
        }
        Identity::Rejected(code) => {
            let detail = format!("STS rejects the request: {}", one_line(code));
            match remedy(code) {
                Some(next) => {
                    Finding::problem(Step::Identity, "identity_rejected", detail).with_next(next)
                }
                // The credentials can be right: STS alone is denied or throttled.
                None => Finding::note(Step::Identity, "identity_unknown", detail),
            }
        }
    }
}

/// Returns what to do about credentials that AWS rejects everywhere. `None` for other errors.
fn remedy(code: &str) -> Option<&'static str> {
    Some(match code {
        "ExpiredToken" | "ExpiredTokenException" => {
            "renew the session: sign in again, or restart what writes its credentials"
        }
        "RequestExpired" | "RequestTimeTooSkewed" => "correct this machine's clock",
        "InvalidClientTokenId" | "UnrecognizedClientException" => {
            "check the access key: it was deleted or belongs to another partition"
        }
        "SignatureDoesNotMatch" => "check the secret access key, and this machine's clock",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_of_the_chain_and_of_sts_has_a_next_step() {
        let reason = "no AWS credentials were found: nothing loaded; give the service a role";
        let reason = ProviderError::new(ProviderErrorKind::Unavailable, reason);
        let finding = identity_finding(&Identity::Unloaded(reason));
        assert_eq!(finding.cause, Some("no_aws_credentials"));
        assert!(finding.detail.ends_with("nothing loaded"), "{finding:?}");
        assert_eq!(finding.next, ["give the service a role"]);
        let finding = identity_finding(&Identity::Rejected("ExpiredToken".into()));
        assert!(finding.is_problem() && finding.next[0].starts_with("renew the session"));
        for code in ["Throttling", "AccessDenied", "InternalFailure"] {
            let finding = identity_finding(&Identity::Rejected(code.into()));
            assert_eq!(finding.cause, Some("identity_unknown"), "{code}");
            assert!(!finding.is_problem() && finding.detail.contains(code));
        }
        let finding = identity_finding(&Identity::Unknown("no route".into()));
        assert!(!finding.is_problem(), "signing needs no STS");
    }
}
