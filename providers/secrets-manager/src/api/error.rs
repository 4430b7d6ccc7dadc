//! Explains errors of Secrets Manager and what to do. No text of a response is passed on: the SDK's
//! errors contain the whole response, and the error of a signature quotes the session token.

use std::error::Error as StdError;
use std::time::SystemTime;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_secretsmanager::config::http::HttpResponse;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use claviger::error::{ProviderError, ProviderErrorKind as Kind};

use super::skew::skew;
use crate::fallback::StagingLabel;

pub(super) type CallError<E> = SdkError<E, HttpResponse>;

/// Error of an operation.
pub(super) trait OperationError: ProvideErrorMetadata + StdError + 'static {}

impl<E: ProvideErrorMetadata + StdError + 'static> OperationError for E {}

/// Operation that was called.
#[derive(Clone, Copy)]
pub(super) enum Operation {
    /// GetSecretValue of the version at this label.
    Value(StagingLabel),
    /// DescribeSecret.
    Description,
}

impl Operation {
    fn action(self) -> &'static str {
        match self {
            Self::Value(_) => "secretsmanager:GetSecretValue",
            Self::Description => "secretsmanager:DescribeSecret",
        }
    }
}

/// Codes of a missing permission.
const NOT_GRANTED: [&str; 4] = [
    "AccessDeniedException",
    "AccessDenied",
    "UnauthorizedOperation",
    "NotAuthorized",
];

/// Returns whether the permission is missing.
pub(super) fn is_not_granted<E: OperationError>(error: &CallError<E>) -> bool {
    error
        .as_service_error()
        .and_then(ProvideErrorMetadata::code)
        .is_some_and(|code| NOT_GRANTED.contains(&code))
}

/// Explains an error and what to do. `place` names the secret; `region` is that of its endpoint;
/// `now` is the supervisor's time.
pub(super) fn explain<E: OperationError>(
    operation: Operation,
    place: &str,
    secret: &str,
    region: &str,
    failure: &CallError<E>,
    now: SystemTime,
) -> ProviderError {
    match failure {
        SdkError::TimeoutError(_) => error(
            Kind::TimedOut,
            place,
            "the call of Secrets Manager timed out",
            "check the network, the endpoint, and for a firewall that drops packets",
        ),
        SdkError::DispatchFailure(dispatch) => match credentials_error(failure) {
            Some(problem) => {
                let (kind, explained) = claviger_aws::explain(problem);
                ProviderError::new(kind, format!("{place}: {explained}"))
            }
            None if dispatch.is_timeout() => error(
                Kind::TimedOut,
                place,
                "the call of Secrets Manager timed out",
                "check the network, the endpoint, and for a firewall that drops packets",
            ),
            None if is_unresolved(failure) => error(
                Kind::Unavailable,
                place,
                &format!("the endpoint of region {region} cannot be resolved"),
                "check the region's name, then DNS, and the endpoint if one is set",
            ),
            None => error(
                Kind::Unavailable,
                place,
                "Secrets Manager cannot be reached",
                "check the network, the endpoint and its certificate",
            ),
        },
        SdkError::ServiceError(service) => {
            let (code, message) = (
                service.err().code().unwrap_or_default(),
                service.err().message().unwrap_or_default(),
            );
            let date = service.raw().headers().get("date");
            let response = ErrorResponse {
                code,
                message,
                status: service.raw().status().as_u16(),
                skew: skew(date, now),
            };
            explain_response(operation, place, secret, &response)
        }
        SdkError::ConstructionFailure(_) => error(
            Kind::Misconfigured,
            place,
            "no request can be made",
            "check the AWS configuration's region and endpoint",
        ),
        _ => incomplete_response(place),
    }
}

/// Reports a response that is not a complete one of Secrets Manager.
pub(super) fn incomplete_response(place: &str) -> ProviderError {
    error(
        Kind::Unavailable,
        place,
        "the response is not a complete one of Secrets Manager",
        "check the endpoint and proxies",
    )
}

/// Makes an error. Every one has what is wrong and what to do, divided by `; `.
fn error(kind: Kind, place: &str, problem: &str, action: &str) -> ProviderError {
    ProviderError::new(kind, format!("{place}: {problem}; {action}"))
}

/// An error response of AWS.
struct ErrorResponse<'a> {
    code: &'a str,
    message: &'a str,
    status: u16,
    /// Difference of this machine's clock, in words.
    skew: Option<String>,
}

/// Explains an error response. The codes are those of the API reference, of its common errors and
/// of older servers.
fn explain_response(
    operation: Operation,
    place: &str,
    secret: &str,
    response: &ErrorResponse<'_>,
) -> ProviderError {
    let action = operation.action();
    let (code, message, status) = (response.code, response.message, response.status);
    let skew = response
        .skew
        .as_ref()
        .map(|skew| format!(": {skew}"))
        .unwrap_or_default();
    match code {
        "ResourceNotFoundException" => match operation {
            Operation::Value(label) => error(
                Kind::NotFound,
                place,
                &format!(
                    "there is no such secret, or no version of it at {}",
                    label.as_str()
                ),
                "check name, region and account, or write a value",
            ),
            Operation::Description => error(
                Kind::NotFound,
                place,
                "there is no such secret",
                "check name, region and account",
            ),
        },
        code if NOT_GRANTED.contains(&code) => {
            if message.contains("KMS") || message.contains("kms:") {
                return undecryptable(place);
            }
            error(
                Kind::Denied,
                place,
                "not allowed",
                &format!("grant {action} on the secret to the identity of this process"),
            )
        }
        "DecryptionFailure" | "DecryptionFailureException" => undecryptable(place),
        "InvalidRequestException" if message.contains("delet") => error(
            Kind::NotFound,
            place,
            "the secret is marked for deletion",
            &format!("restore it with `aws secretsmanager restore-secret --secret-id {secret}`"),
        ),
        "InvalidRequestException" => error(
            Kind::Misconfigured,
            place,
            "the secret's state does not allow it (InvalidRequestException)",
            "see the state with `aws secretsmanager describe-secret`",
        ),
        "InvalidParameterException" | "ValidationException" | "ValidationError" => error(
            Kind::Misconfigured,
            place,
            "Secrets Manager rejects the request",
            "check \"secret_id\"",
        ),
        "ExpiredTokenException" | "ExpiredToken" | "TokenRefreshRequired" => error(
            Kind::Unavailable,
            place,
            "the AWS session has expired and was not renewed yet",
            "check what renews this process's AWS credentials",
        ),
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "OptInRequired"
        | "AuthFailure" => error(
            Kind::Denied,
            place,
            "AWS rejects this process's AWS credentials",
            "configure others",
        ),
        "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => error(
            Kind::Unavailable,
            place,
            "AWS rejects the time of the request",
            &format!("check this machine's clock{skew}"),
        ),
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException" => {
            let kind = if response.skew.is_some() {
                Kind::Unavailable
            } else {
                Kind::Denied
            };
            error(
                kind,
                place,
                "AWS rejects the signature",
                &format!("check the secret access key and this machine's clock{skew}"),
            )
        }
        // The SDK could not parse the response.
        _ if status < 400 => incomplete_response(place),
        _ if is_throttling(code) || status == 429 => error(
            Kind::Throttled,
            place,
            "Secrets Manager throttles requests",
            "check whether many instances start together, or request a higher quota",
        ),
        _ if status >= 500
            || matches!(
                code,
                "InternalServiceError" | "InternalFailure" | "ServiceUnavailable"
            ) =>
        {
            error(
                Kind::Unavailable,
                place,
                &format!("Secrets Manager has an internal error (HTTP status {status})"),
                "check the AWS Health Dashboard for this region",
            )
        }
        _ if status == 401 || status == 403 => error(
            Kind::Denied,
            place,
            &format!("not allowed (HTTP status {status})"),
            &format!("grant {action} on the secret"),
        ),
        _ => error(
            Kind::Other,
            place,
            &format!(
                "Secrets Manager returned HTTP status {status}{}",
                in_brackets(code)
            ),
            "check the endpoint and proxies",
        ),
    }
}

fn undecryptable(place: &str) -> ProviderError {
    error(
        Kind::Denied,
        place,
        "the value cannot be decrypted",
        "grant kms:Decrypt on the secret's KMS key to the identity of this process, and check that \
        the key is enabled",
    )
}

/// Returns whether the code means throttling, as in the SDK (aws-runtime, `THROTTLING_ERRORS`).
fn is_throttling(code: &str) -> bool {
    const CODES: [&str; 14] = [
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottledException",
        "TooManyRequestsException",
        "ProvisionedThroughputExceededException",
        "TransactionInProgressException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "RequestThrottled",
        "SlowDown",
        "PriorRequestNotComplete",
        "EC2ThrottledException",
    ];
    CODES.contains(&code)
}

/// Returns the code in brackets if it is a word. Anything else is left out.
fn in_brackets(code: &str) -> String {
    let is_word =
        (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_word {
        format!(" ({code})")
    } else {
        String::new()
    }
}

/// Returns whether a host has no address, as that of a region which does not exist.
fn is_unresolved(failure: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(failure);
    while let Some(error) = next {
        if error.to_string() == "dns error" {
            return true;
        }
        next = error.source();
    }
    false
}

/// Returns the credentials error that caused a failure, if any.
fn credentials_error<'f>(failure: &'f (dyn StdError + 'static)) -> Option<&'f CredentialsError> {
    let mut next = Some(failure);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests;
