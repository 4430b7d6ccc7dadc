use super::*;

const PLACE: &str = "secret orders in eu-west-1, AWSCURRENT";
const CANARY: &str = "CANARY";

fn explained(code: &str, message: &str, status: u16) -> ProviderError {
    explain_response(
        Operation::Value(StagingLabel::Current),
        PLACE,
        "orders",
        &ErrorResponse {
            code,
            message,
            status,
            skew: None,
        },
    )
}

#[test]
fn every_error_has_its_kind_and_names_the_remedy() {
    let deleted =
        "You can't perform this operation on the secret because it was marked for deletion. CANARY";
    let denied = "User: arn:aws:sts::1:assumed-role/CANARY is not authorized to perform: \
                  secretsmanager:GetSecretValue";
    for (code, message, status, kind, expected) in [
        (
            "ResourceNotFoundException",
            CANARY,
            400,
            Kind::NotFound,
            "no such secret, or no version of it at AWSCURRENT",
        ),
        (
            "AccessDeniedException",
            denied,
            400,
            Kind::Denied,
            "grant secretsmanager:GetSecretValue",
        ),
        (
            "AccessDeniedException",
            "Access to KMS is not allowed",
            400,
            Kind::Denied,
            "grant kms:Decrypt",
        ),
        (
            "DecryptionFailure",
            CANARY,
            400,
            Kind::Denied,
            "grant kms:Decrypt",
        ),
        (
            "InvalidRequestException",
            deleted,
            400,
            Kind::NotFound,
            "restore-secret --secret-id orders",
        ),
        (
            "InvalidRequestException",
            CANARY,
            400,
            Kind::Misconfigured,
            "state",
        ),
        (
            "InvalidParameterException",
            CANARY,
            400,
            Kind::Misconfigured,
            "\"secret_id\"",
        ),
        (
            "ThrottlingException",
            CANARY,
            400,
            Kind::Throttled,
            "throttles requests",
        ),
        (
            "TooManyRequestsException",
            CANARY,
            400,
            Kind::Throttled,
            "throttles requests",
        ),
        (CANARY, CANARY, 429, Kind::Throttled, "throttles requests"),
        (
            "InternalServiceError",
            CANARY,
            500,
            Kind::Unavailable,
            "status 500",
        ),
        ("", "", 503, Kind::Unavailable, "status 503"),
        (
            "ExpiredTokenException",
            CANARY,
            400,
            Kind::Unavailable,
            "expired",
        ),
        (
            "UnrecognizedClientException",
            CANARY,
            400,
            Kind::Denied,
            "rejects this process's AWS credentials",
        ),
        (
            "InvalidSignatureException",
            "x-amz-security-token:CANARY",
            400,
            Kind::Denied,
            "clock",
        ),
        (
            "RequestTimeTooSkewed",
            CANARY,
            403,
            Kind::Unavailable,
            "clock",
        ),
        ("RequestExpired", CANARY, 400, Kind::Unavailable, "clock"),
        (
            "",
            CANARY,
            403,
            Kind::Denied,
            "grant secretsmanager:GetSecretValue",
        ),
        ("Unheard-of CANARY", CANARY, 418, Kind::Other, "status 418"),
        (
            "other",
            CANARY,
            200,
            Kind::Unavailable,
            "not a complete one",
        ),
        ("UnheardOf", "", 400, Kind::Other, "(UnheardOf)"),
    ] {
        let error = explained(code, message, status);
        assert_eq!(error.kind(), kind, "{code}: {error}");
        let text = format!("{error} {error:?}");
        assert!(
            text.contains(PLACE) && text.contains(expected),
            "{code}: {text}"
        );
        assert!(!text.contains(CANARY), "{text}");
        assert!(StdError::source(&error).is_none());
    }
}

#[test]
fn a_description_names_its_own_permission() {
    let error = ErrorResponse {
        code: "AccessDeniedException",
        message: "",
        status: 400,
        skew: None,
    };
    let error = explain_response(Operation::Description, PLACE, "orders", &error);
    assert!(
        error
            .to_string()
            .contains("grant secretsmanager:DescribeSecret"),
        "{error}"
    );
}
