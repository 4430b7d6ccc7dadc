#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use claviger::error::ProviderErrorKind;

const CANARY: &str = "CANARY";

fn failure(status: u16, text: &str) -> CallError {
    CallError::Status {
        status,
        texts: vec![format!("{text} {CANARY}")],
        retry_after: None,
        namespace: None,
    }
}

#[test]
fn an_invalid_value_is_an_error_that_names_the_setting_and_no_secret() {
    for (auth, name) in [
        (Auth::token(""), "\"token\""),
        (Auth::token("CANARY\n"), "\"token\""),
        (Auth::token("CANARÜ"), "\"token\""),
        (Auth::token_file("/run/token\0"), "\"token\""),
        (
            Auth::app_role("r", SecretId::wrapped_file("/run/token\0")),
            "\"secret_id\"",
        ),
        (Auth::token("CANARY").with_mount("x"), "\"mount\""),
        (Auth::app_role(" ", SecretId::none()), "\"role_id\""),
        (Auth::app_role("r", SecretId::given("")), "\"secret_id\""),
        (
            Auth::app_role("r", SecretId::wrapped("CANARY x")),
            "\"secret_id\"",
        ),
        (
            Auth::app_role("r", SecretId::none()).with_mount("/approle"),
            "\"mount\"",
        ),
        (Auth::kubernetes(""), "\"role\""),
        (Auth::jwt("r", ""), "\"jwt\""),
    ] {
        let error = auth.validate().unwrap_err();
        assert_eq!(error.kind(), ProviderErrorKind::Misconfigured);
        assert!(error.to_string().starts_with(name), "{error}");
        assert!(
            !format!("{error:?} {auth:?}").contains("CANAR"),
            "{error:?} {auth:?}"
        );
    }
}

#[test]
fn a_rejected_login_names_possible_causes() {
    let app_role = Auth::app_role("r", SecretId::given("s"));
    for (auth, status, text, kind) in [
        (
            &app_role,
            400,
            "invalid role or secret ID",
            ProviderErrorKind::Denied,
        ),
        (
            &app_role,
            404,
            "no handler for route",
            ProviderErrorKind::NotFound,
        ),
        (
            &app_role,
            403,
            "permission denied",
            ProviderErrorKind::Denied,
        ),
        (
            &app_role,
            503,
            "Vault is sealed",
            ProviderErrorKind::Unavailable,
        ),
        (
            &Auth::kubernetes("r"),
            403,
            "permission denied",
            ProviderErrorKind::Unavailable,
        ),
        (
            &Auth::kubernetes("r"),
            403,
            "service account name not authorized",
            ProviderErrorKind::Denied,
        ),
        (
            &Auth::jwt("r", "j"),
            400,
            "error validating token",
            ProviderErrorKind::Denied,
        ),
        (&Auth::jwt("r", "j"), 429, "", ProviderErrorKind::Throttled),
    ] {
        let error = auth.explain("PLACE", &failure(status, text));
        assert_eq!(error.kind(), kind, "{auth:?} {status} {text}: {error}");
        let shown = format!("{error} {error:?}");
        assert!(
            shown.contains("PLACE") && !shown.contains(CANARY),
            "{shown}"
        );
    }
}
