//! What a failure of Secrets Manager means, in words that say what to do. Nothing of the answer's
//! own text is passed on: the SDK's errors hold the whole answer, and a signature's error quotes
//! the session token.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_secretsmanager::config::http::HttpResponse;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use claviger::{ProviderError, ProviderErrorKind as Kind, Timestamp};

use super::skew::skew;
use crate::fallback::StagingLabel;

pub(super) type CallError<E> = SdkError<E, HttpResponse>;

/// An operation's error, as far as it is looked at.
pub(super) trait OperationError: ProvideErrorMetadata + StdError + 'static {}

impl<E: ProvideErrorMetadata + StdError + 'static> OperationError for E {}

/// What was asked for.
#[derive(Clone, Copy)]
pub(super) enum Operation {
    /// The value of the version at a stage.
    Value(StagingLabel),
    /// The secret's description.
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

/// What IAM says about a permission that is missing.
const NOT_GRANTED: [&str; 4] = [
    "AccessDeniedException",
    "AccessDenied",
    "UnauthorizedOperation",
    "NotAuthorized",
];

/// Whether the permission is missing, whatever else may be.
pub(super) fn is_not_granted<E: OperationError>(failure: &CallError<E>) -> bool {
    failure
        .as_service_error()
        .and_then(ProvideErrorMetadata::code)
        .is_some_and(|code| NOT_GRANTED.contains(&code))
}

/// The kind of a failure, and what to do about it. `place` says what was asked for.
pub(super) fn explain<E: OperationError>(
    operation: Operation,
    place: &str,
    secret: &str,
    failure: &CallError<E>,
) -> ProviderError {
    match failure {
        SdkError::TimeoutError(_) => error(
            Kind::TimedOut,
            place,
            "Secrets Manager did not answer in time",
        ),
        SdkError::DispatchFailure(dispatch) => match credentials(failure) {
            Some(problem) => {
                let (kind, explained) = claviger_aws::explain(problem);
                error(kind, place, &explained)
            }
            None if dispatch.is_timeout() => error(
                Kind::TimedOut,
                place,
                "Secrets Manager did not answer in time",
            ),
            None => error(
                Kind::Unavailable,
                place,
                "Secrets Manager cannot be reached; see to the network, the endpoint and its certificate",
            ),
        },
        SdkError::ServiceError(answer) => {
            let (code, message) = (
                answer.err().code().unwrap_or_default(),
                answer.err().message().unwrap_or_default(),
            );
            let date = answer.raw().headers().get("date");
            let found = ErrorResponse {
                code,
                message,
                status: answer.raw().status().as_u16(),
                skew: skew(date, Timestamp::now().wall()),
            };
            explain_response(operation, place, secret, &found)
        }
        SdkError::ConstructionFailure(_) => error(
            Kind::Misconfigured,
            place,
            "no request can be made; see to the AWS configuration's region and endpoint",
        ),
        _ => incomplete_response(place),
    }
}

/// What came was no answer of Secrets Manager's.
pub(super) fn incomplete_response(place: &str) -> ProviderError {
    error(
        Kind::Unavailable,
        place,
        "what came is no whole answer of Secrets Manager's; see to the endpoint and to what lies in between",
    )
}

fn error(kind: Kind, place: &str, problem: &str) -> ProviderError {
    ProviderError::new(kind, format!("{place}: {problem}"))
}

/// An error as it was returned by AWS.
struct ErrorResponse<'a> {
    code: &'a str,
    message: &'a str,
    status: u16,
    /// How far this machine's clock is off, in words.
    skew: Option<String>,
}

/// The codes are those of the API's reference, of its common errors, and of AWS's older front ends.
fn explain_response(
    operation: Operation,
    place: &str,
    secret: &str,
    answer: &ErrorResponse<'_>,
) -> ProviderError {
    let action = operation.action();
    let (code, message, status) = (answer.code, answer.message, answer.status);
    let skew = answer
        .skew
        .as_ref()
        .map(|skew| format!(": {skew}"))
        .unwrap_or_default();
    match code {
        "ResourceNotFoundException" => match operation {
            Operation::Value(stage) => error(
                Kind::NotFound,
                place,
                &format!(
                    "there is no such secret, or no version of it at {}; see to name, region and account, or write a value",
                    stage.as_str()
                ),
            ),
            Operation::Description => error(
                Kind::NotFound,
                place,
                "there is no such secret; see to name, region and account",
            ),
        },
        code if NOT_GRANTED.contains(&code) => {
            if message.contains("KMS") || message.contains("kms:") {
                return undecryptable(place);
            }
            error(
                Kind::Denied,
                place,
                &format!(
                    "not allowed; grant {action} on the secret to whom this process's AWS credentials belong"
                ),
            )
        }
        "DecryptionFailure" | "DecryptionFailureException" => undecryptable(place),
        "InvalidRequestException" if message.contains("delet") => error(
            Kind::NotFound,
            place,
            &format!(
                "the secret is marked for deletion; take it back with `aws secretsmanager restore-secret --secret-id {secret}`"
            ),
        ),
        "InvalidRequestException" => error(
            Kind::Misconfigured,
            place,
            "the secret's state does not allow it (InvalidRequestException)",
        ),
        "InvalidParameterException" | "ValidationException" | "ValidationError" => error(
            Kind::Misconfigured,
            place,
            "Secrets Manager does not take the request; see to `secret_id`",
        ),
        "ExpiredTokenException" | "ExpiredToken" | "TokenRefreshRequired" => error(
            Kind::Unavailable,
            place,
            "the AWS connection has expired and was not renewed yet; see to what renews this process's AWS credentials",
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
            "AWS does not know this process's AWS credentials; give it others",
        ),
        "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => error(
            Kind::Unavailable,
            place,
            &format!(
                "AWS takes the request for one of another time; see to this machine's clock{skew}"
            ),
        ),
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException" => {
            let kind = if answer.skew.is_some() {
                Kind::Unavailable
            } else {
                Kind::Denied
            };
            error(
                kind,
                place,
                &format!(
                    "AWS does not take the signature; see to the secret access key and to this machine's clock{skew}"
                ),
            )
        }
        // The SDK's way to say that it could not read the answer.
        _ if status < 400 => incomplete_response(place),
        _ if is_throttling(code) || status == 429 => error(
            Kind::Throttled,
            place,
            "Secrets Manager asks for fewer requests",
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
                &format!("Secrets Manager has a fault of its own (HTTP status {status})"),
            )
        }
        _ if status == 401 || status == 403 => error(
            Kind::Denied,
            place,
            &format!("not allowed (HTTP status {status}); grant {action} on the secret"),
        ),
        _ => error(
            Kind::Other,
            place,
            &format!(
                "Secrets Manager answered HTTP status {status}{}",
                in_brackets(code)
            ),
        ),
    }
}

fn undecryptable(place: &str) -> ProviderError {
    let problem = "the value cannot be decrypted; grant kms:Decrypt on the secret's KMS key to whom this process's AWS credentials belong, and see that the key is enabled";
    error(Kind::Denied, place, problem)
}

/// As the SDK tells throttling (aws-runtime, `THROTTLING_ERRORS`).
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

/// An error's code is a word; whatever else it is stays unsaid.
fn in_brackets(code: &str) -> String {
    let is_word =
        (1..=64).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_word {
        format!(" ({code})")
    } else {
        String::new()
    }
}

/// The credentials' fault at the bottom of a failure, if that is what it is.
fn credentials<'f>(failure: &'f (dyn StdError + 'static)) -> Option<&'f CredentialsError> {
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
