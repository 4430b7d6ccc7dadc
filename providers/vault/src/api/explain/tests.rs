//! Each error has its kind and what to do, and shows no text of the server.

use std::error::Error as _;
use std::time::Duration;

use super::*;

const PLACE: &str = "http://vault:8200, database/creds/orders";
const CANARY: &str = "CANARY";

fn explained(status: u16, text: &str) -> ProviderError {
    let texts = vec![format!("{text} {CANARY}")];
    CallError::Status {
        status,
        texts,
        retry_after: Some(Duration::from_secs(7)),
        namespace: None,
    }
    .explain(PLACE, "grant `read` on it")
}

#[test]
fn every_status_has_its_kind_and_remedy() {
    for (status, text, kind, expected) in [
        (503, "Vault is sealed", Kind::Unavailable, "unseal it"),
        (503, "", Kind::Unavailable, "status 503"),
        (
            429,
            "request path \"x\": rate limit quota exceeded",
            Kind::Throttled,
            "quota",
        ),
        (
            412,
            "required index state not present",
            Kind::Unavailable,
            "not yet received",
        ),
        (472, "", Kind::Unavailable, "standby"),
        (473, "", Kind::Unavailable, "standby"),
        (
            500,
            "local node not active but active cluster node not found",
            Kind::Unavailable,
            "without an active node",
        ),
        (403, "permission denied", Kind::Denied, "grant `read` on it"),
        (400, "unknown role: orders", Kind::NotFound, "no such role"),
        (
            404,
            "no handler for route \"database/creds/orders\"",
            Kind::NotFound,
            "nothing is mounted",
        ),
        (404, "", Kind::NotFound, "nothing at this path"),
        (
            500,
            "failed to connect to `host=db`: dial error",
            Kind::Unavailable,
            "the database",
        ),
        (500, "", Kind::Unavailable, "internal error"),
        (
            400,
            "Client sent an HTTP request to an HTTPS server.",
            Kind::Misconfigured,
            "begins with https",
        ),
        (400, "", Kind::Other, "status 400"),
    ] {
        let error = explained(status, text);
        assert_eq!(error.kind(), kind, "{status} {text}: {error}");
        let shown = format!("{error} {error:?}");
        assert!(
            shown.contains(PLACE) && shown.contains(expected),
            "{status} {text}: {shown}"
        );
        assert!(!shown.contains(CANARY), "{shown}");
        assert!(error.message().ends_with(error.action()), "{shown}");
        assert!(error.source().is_none());
    }
}

#[test]
fn errors_of_the_engine_s_database_are_divided_by_their_codes() {
    for (text, kind, expected) in [
        (
            "Error 1227 (42000): Access denied; you need the CREATE USER privilege",
            Kind::Denied,
            "lacks a permission in the database (error 1227)",
        ),
        (
            "Error 1064 (42000): You have an error in your SQL syntax",
            Kind::Misconfigured,
            "rejects a statement of the role (error 1064)",
        ),
        (
            "Error 1045 (28000): Access denied for user 'engine'@'vault'",
            Kind::Unavailable,
            "rejects the login of the engine's user (error 1045)",
        ),
        (
            "pq: permission denied to create role",
            Kind::Denied,
            "lacks a permission in the database; ",
        ),
        (
            "failed to connect: FATAL: database \"orders\" does not exist (SQLSTATE 3D000)",
            Kind::Unavailable,
            "engine's connection does not exist (SQLSTATE 3D000)",
        ),
        (
            "Error 1049 (42000): Unknown database 'orders'",
            Kind::Unavailable,
            "engine's connection does not exist (error 1049)",
        ),
        (
            "ERROR: relation \"orders\" does not exist (SQLSTATE 42P01)",
            Kind::Unavailable,
            "name what does not exist in the database (SQLSTATE 42P01)",
        ),
        (
            "FATAL: sorry, too many clients already (SQLSTATE 53300)",
            Kind::Unavailable,
            "cannot connect to the database (SQLSTATE 53300)",
        ),
        (
            "ERROR: tuple concurrently updated (SQLSTATE XX000)",
            Kind::Unavailable,
            "returned an error to Vault (SQLSTATE XX000)",
        ),
        (
            "failed to find entry for connection with name: \"orders\"",
            Kind::Misconfigured,
            "`db_name`",
        ),
    ] {
        let error = explained(500, text);
        assert_eq!(error.kind(), kind, "{text}: {error}");
        assert!(error.message().contains(expected), "{text}: {error}");
        assert!(!error.message().contains(CANARY), "{error}");
    }
}

#[test]
fn a_namespace_is_the_first_cause_of_what_is_not_found() {
    let error = CallError::Status {
        status: 404,
        texts: Vec::new(),
        retry_after: None,
        namespace: Some("team".to_owned()),
    }
    .explain(PLACE, "");
    assert!(
        error
            .problem()
            .ends_with("or there is no namespace \"team\"")
    );
    assert!(error.action().starts_with("check \"namespace\" first"));
}
