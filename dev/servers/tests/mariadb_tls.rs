//! needs: mariadb, pam
//!
//! MariaDB with TLS and with tokens.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "support/mariadb_client.rs"]
mod client;
#[path = "support/token.rs"]
mod token;

use std::path::Path;
use std::time::Duration;

use claviger_servers::MariaDb;
use client::{log_in, login_result};
use token::{Token, seconds_ago, system_time};

/// Returns the client's options that verify the server's certificate by this authority.
fn tls_options(ca: &Path) -> [String; 3] {
    [
        "--ssl".to_owned(),
        format!("--ssl-ca={}", ca.display()),
        "--ssl-verify-server-cert".to_owned(),
    ]
}

/// Logs in over TLS and verifies the server's certificate.
fn log_in_with_tls(
    server: &MariaDb,
    user: &str,
    password: &str,
    ca: &Path,
) -> Result<String, String> {
    login_result(&log_in(
        server,
        user,
        password,
        &tls_options(ca).each_ref().map(String::as_str),
    ))
}

#[test]
fn only_the_servers_own_authority_verifies_it() {
    let server = MariaDb::builder().tls().start().unwrap();
    server.create_role("app", "right").unwrap();
    server.sql("ALTER USER 'app'@'%' REQUIRE SSL").unwrap();
    let (ca, unrelated) = (
        server.ca_file().unwrap(),
        server.unrelated_ca_file().unwrap(),
    );
    assert_eq!(
        log_in_with_tls(&server, "app", "right", ca),
        Ok("app".to_owned())
    );
    let rejection = log_in_with_tls(&server, "app", "right", unrelated).unwrap_err();
    assert!(
        rejection.contains("TLS/SSL error") && rejection.contains("certificate"),
        "{rejection}"
    );
    assert_eq!(server.log().authenticated_logins().unwrap(), 1);
    // The account requires TLS.
    login_result(&log_in(&server, "app", "right", &["--skip-ssl"])).unwrap_err();
    assert_eq!(server.log().rejected_logins_of("app").unwrap(), 1);

    let plain = MariaDb::start().unwrap();
    assert_eq!((plain.ca_file(), plain.unrelated_ca_file()), (None, None));
    plain.create_role("app", "right").unwrap();
    log_in_with_tls(&plain, "app", "right", ca).unwrap_err();
}

#[test]
fn tokens_are_checked_as_on_postgresql() {
    let server = MariaDb::builder().tokens().start().unwrap();
    let ca = server.ca_file().unwrap();
    for user in ["app", "first.last+x@corp", "with a space", "größe"] {
        server.create_token_role(user).unwrap();
        let token = Token::new(user, seconds_ago(60)).text();
        assert!(token.len() > 1_500);
        assert_eq!(
            log_in_with_tls(&server, user, &token, ca).as_deref(),
            Ok(user)
        );
        let check = server.token_checks().entries().unwrap().pop().unwrap();
        assert!(
            check.accepted && check.user == user && check.length == token.len(),
            "{check:?}"
        );
        assert_eq!(server.log().authenticated_logins_of(user).unwrap(), 1);
    }
    let valid = Token::new("app", system_time());
    let long = valid
        .clone()
        .with("X-Amz-Security-Token", "x".repeat(4_000))
        .text();
    assert_eq!(
        log_in_with_tls(&server, "app", &long, ca),
        Ok("app".to_owned())
    );

    let new_checks = server.token_checks().from_now().unwrap();
    let rejected = [
        Token::new("app", seconds_ago(901)).text(),
        Token::new("app", seconds_ago(3))
            .with("X-Amz-Expires", "2")
            .text(),
        Token::new("other", system_time()).text(),
        "no token".to_owned(),
    ];
    for token in &rejected {
        let rejection = log_in_with_tls(&server, "app", token, ca).unwrap_err();
        assert!(rejection.contains("ERROR 1045 (28000)"), "{rejection}");
    }
    let reasons: Vec<_> = new_checks
        .entries()
        .unwrap()
        .into_iter()
        .map(|check| check.reason)
        .collect();
    assert_eq!(
        reasons[..3],
        [
            "the token has expired",
            "the token has expired",
            "DBUser is another user"
        ]
    );
    assert_eq!(
        server.log().rejected_logins_of("app").unwrap(),
        rejected.len()
    );

    let checks = server.token_checks();
    checks.reject_all(true).unwrap();
    log_in_with_tls(&server, "app", &valid.text(), ca).unwrap_err();
    checks.reject_all(false).unwrap();
    checks.expire_session("ASIAEXAMPLE", system_time()).unwrap();
    log_in_with_tls(&server, "app", &valid.text(), ca).unwrap_err();
    checks
        .expire_session("ASIAEXAMPLE", system_time() + Duration::from_secs(60))
        .unwrap();
    log_in_with_tls(&server, "app", &valid.text(), ca).unwrap();
}

#[test]
fn a_token_requires_tls() {
    let server = MariaDb::builder().tokens().start().unwrap();
    server.create_token_role("app").unwrap();
    let token = Token::new("app", system_time()).text();
    let rejection = login_result(&log_in(&server, "app", &token, &["--skip-ssl"])).unwrap_err();
    assert!(rejection.contains("1045"), "{rejection}");
    assert_eq!(server.log().rejected_logins_of("app").unwrap(), 1);
    assert_eq!(server.log().authenticated_logins().unwrap(), 0);
}

#[test]
fn a_server_without_tokens_has_no_checks() {
    let server = MariaDb::start().unwrap();
    let error = server.token_checks().accepted().unwrap_err();
    assert!(error.to_string().contains("builder().tokens()"), "{error}");
    server.create_token_role("app").unwrap_err();
}
