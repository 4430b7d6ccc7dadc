//! needs: postgresql, pam
//!
//! PostgreSQL verifies tokens as RDS does.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "support/client.rs"]
mod client;
#[path = "support/token.rs"]
mod token;

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use claviger_servers::{Postgres, Programs, Server, StartError};
use client::{log_in, login_result};
use token::{Token, credential, format_date, seconds_ago, system_time};

fn start_server() -> Postgres {
    let server = Postgres::builder().tokens().start().unwrap();
    server.create_token_role("app").unwrap();
    server
}

/// Logs in over TLS and verifies the server's certificate.
fn log_in_with_tls(server: &Postgres, user: &str, token: &str) -> Result<String, String> {
    let tls = format!(
        "sslmode=verify-full sslrootcert='{}'",
        server.ca_file().unwrap().display()
    );
    login_result(&log_in(server, user, token, &tls))
}

/// Returns the token's text with another endpoint.
fn with_endpoint(token: &Token, endpoint: &str) -> String {
    Token {
        endpoint: endpoint.to_owned(),
        parameters: token.parameters.clone(),
    }
    .text()
}

/// Returns the token's text without this parameter.
fn without(token: &Token, name: &str) -> String {
    let mut token = token.clone();
    token.parameters.retain(|(parameter, _)| *parameter != name);
    token.text()
}

#[test]
fn a_valid_token_is_accepted_and_not_logged() {
    let server = start_server();
    let started = system_time();
    let token = Token::new("app", seconds_ago(60)).text();
    assert!(token.len() > 1_500);
    assert_eq!(
        log_in_with_tls(&server, "app", &token),
        Ok("app".to_owned())
    );

    let checks = server.token_checks();
    let [check] = checks.entries().unwrap().try_into().unwrap();
    assert!(check.accepted && check.reason.is_empty(), "{check:?}");
    assert_eq!(
        (check.user.as_str(), check.length, check.access_key.as_str()),
        ("app", token.len(), "ASIAEXAMPLE")
    );
    assert_eq!(check.expires, Duration::from_secs(900));
    assert!(
        check.age >= Duration::from_secs(60) && check.age < Duration::from_secs(90),
        "{check:?}"
    );
    assert!(
        check.checked_at + Duration::from_millis(1) >= started && check.checked_at <= system_time(),
        "{check:?}"
    );
    assert_eq!(
        (checks.accepted().unwrap(), checks.rejected().unwrap()),
        (1, 0)
    );
    assert_eq!(server.log().authenticated_logins_of("app").unwrap(), 1);
    assert_eq!(server.log().count("method=pam").unwrap(), 1);

    for file in [
        server.log().file().to_owned(),
        server.socket_dir().join("tokens/checks"),
    ] {
        let text = fs::read_to_string(file).unwrap();
        assert!(
            !text.contains("IQoJb3JpZ2lu") && !text.contains("0123456789abcdef"),
            "{text}"
        );
    }
}

#[test]
fn the_reason_is_logged_and_the_client_gets_28000() {
    let server = start_server();
    let signed = seconds_ago(60);
    let valid = Token::new("app", signed);
    let signed_date = format_date(signed);
    let cases = [
        ("not a token", "no-token-at-all".to_owned()),
        ("a url", with_endpoint(&valid, "https://db:5432")),
        ("no port", with_endpoint(&valid, "db")),
        ("port 0", with_endpoint(&valid, "db:0")),
        ("a large port", with_endpoint(&valid, "db:65536")),
        ("no host", with_endpoint(&valid, ":5432")),
        ("bare IPv6", with_endpoint(&valid, "::1:5432")),
        (
            "another action",
            valid.clone().with("Action", "Connect").text(),
        ),
        ("another user", valid.clone().with("DBUser", "app2").text()),
        ("no user", without(&valid, "DBUser")),
        ("a bad escape", valid.clone().with("DBUser", "app%2").text()),
        (
            "another algorithm",
            valid
                .clone()
                .with("X-Amz-Algorithm", "AWS4-HMAC-SHA1")
                .text(),
        ),
        ("no credential", without(&valid, "X-Amz-Credential")),
        (
            "another service",
            valid
                .clone()
                .with(
                    "X-Amz-Credential",
                    credential("ASIAEXAMPLE", &signed_date).replace("rds-db", "rds"),
                )
                .text(),
        ),
        (
            "another day",
            valid
                .clone()
                .with("X-Amz-Credential", credential("ASIAEXAMPLE", "20200102"))
                .text(),
        ),
        (
            "no key",
            valid
                .clone()
                .with("X-Amz-Credential", credential("", &signed_date))
                .text(),
        ),
        ("no date", without(&valid, "X-Amz-Date")),
        (
            "an odd date",
            valid
                .clone()
                .with("X-Amz-Date", "2026-01-02T03:04:05Z")
                .text(),
        ),
        ("no expiry", without(&valid, "X-Amz-Expires")),
        ("901 s", valid.clone().with("X-Amz-Expires", "901").text()),
        ("0 s", valid.clone().with("X-Amz-Expires", "0").text()),
        ("no signature", without(&valid, "X-Amz-Signature")),
        (
            "half a signature",
            valid
                .clone()
                .with("X-Amz-Signature", "ab".repeat(31))
                .text(),
        ),
        (
            "no hex",
            valid.clone().with("X-Amz-Signature", "g".repeat(64)).text(),
        ),
        ("twice", format!("{}&DBUser=app", valid.text())),
        ("expired", Token::new("app", seconds_ago(901)).text()),
        (
            "expired early",
            Token::new("app", seconds_ago(3))
                .with("X-Amz-Expires", "2")
                .text(),
        ),
        (
            "future",
            Token::new("app", system_time() + Duration::from_secs(310)).text(),
        ),
    ];
    let mut reasons = Vec::new();
    for (name, token) in &cases {
        let new_checks = server.token_checks().from_now().unwrap();
        let rejection = log_in_with_tls(&server, "app", token).unwrap_err();
        assert!(
            rejection.contains("PAM authentication failed for user \"app\""),
            "{name}: {rejection}"
        );
        let [check] = new_checks.entries().unwrap().try_into().unwrap();
        assert!(
            !check.accepted && !check.reason.is_empty(),
            "{name}: {check:?}"
        );
        reasons.push(format!("{name}: {}", check.reason));
    }
    for expected in [
        "not a token: no host:port/? before the parameters",
        "port 0: not exactly host:port/? before the parameters",
        "another user: DBUser is another user",
        "expired: the token has expired",
        "expired early: the token has expired",
        "future: X-Amz-Date is in the future",
        "901 s: X-Amz-Expires is not from 1 to 900",
        "another service: X-Amz-Credential is not for rds-db on that day",
        "twice: a parameter that comes twice",
    ] {
        assert!(
            reasons.iter().any(|reason| reason == expected),
            "{expected} is not in {reasons:#?}"
        );
    }
    assert_eq!(server.token_checks().rejected().unwrap(), cases.len());
    assert_eq!(server.log().rejected_logins_of("app").unwrap(), cases.len());
    assert_eq!(server.log().rejected_logins().unwrap(), cases.len());
    assert_eq!(server.log().authenticated_logins().unwrap(), 0);
}

#[test]
fn unusual_valid_tokens_are_accepted() {
    let server = start_server();
    let valid = Token::new("app", seconds_ago(899 - 30));
    for (name, token) in [
        ("ipv6", with_endpoint(&valid, "[::1]:5432")),
        ("mixed case", with_endpoint(&valid, "DB.Example.COM:1")),
        (
            "a clock ahead",
            Token::new("app", system_time() + Duration::from_secs(280)).text(),
        ),
        ("no session token", without(&valid, "X-Amz-Security-Token")),
        (
            "long",
            valid
                .clone()
                .with("X-Amz-Security-Token", "x".repeat(4_000))
                .text(),
        ),
        (
            "an unknown parameter",
            format!("{}&X-Amz-New=1", valid.text()),
        ),
    ] {
        assert_eq!(
            log_in_with_tls(&server, "app", &token),
            Ok("app".to_owned()),
            "{name}: {:?}",
            server.token_checks().entries().unwrap().last()
        );
    }
    for user in [
        "first.last+x@corp",
        "with a space",
        "größe",
        "100%",
        "a\"b'c\\d",
        "A&b=c",
    ] {
        server.create_token_role(user).unwrap();
        assert_eq!(
            log_in_with_tls(&server, user, &Token::new(user, system_time()).text()).as_deref(),
            Ok(user)
        );
        assert_eq!(
            server
                .token_checks()
                .entries()
                .unwrap()
                .last()
                .unwrap()
                .user,
            user
        );
        assert_eq!(server.log().authenticated_logins_of(user).unwrap(), 1);
    }
    // A plus that is not percent-encoded is read as a space.
    let unencoded = Token::new("app", system_time())
        .with("DBUser", "first.last+x@corp")
        .text();
    log_in_with_tls(&server, "first.last+x@corp", &unencoded).unwrap_err();
}

#[test]
fn a_token_requires_tls_and_passwords_are_rejected() {
    let server = start_server();
    let token = Token::new("app", system_time()).text();
    let rejection = login_result(&log_in(&server, "app", &token, "sslmode=disable")).unwrap_err();
    assert!(rejection.contains("pg_hba.conf rejects"), "{rejection}");
    assert_eq!(server.token_checks().entries().unwrap(), []);

    server.set_password("app", "right").unwrap();
    log_in_with_tls(&server, "app", "right").unwrap_err();
    server.create_role("other", "right").unwrap();
    log_in_with_tls(&server, "other", "right").unwrap();
    login_result(&log_in(&server, "other", "right", "sslmode=disable")).unwrap();
    log_in_with_tls(&server, "other", &Token::new("other", system_time()).text()).unwrap_err();
    assert_eq!(server.token_checks().entries().unwrap().len(), 1);
}

#[test]
fn all_tokens_are_rejected_while_reject_all_is_set() {
    let server = start_server();
    let checks = server.token_checks();
    let token = Token::new("app", system_time()).text();
    checks.reject_all(true).unwrap();
    checks.reject_all(true).unwrap();
    log_in_with_tls(&server, "app", &token).unwrap_err();
    let rejected = checks.entries().unwrap().pop().unwrap();
    assert_eq!(
        (rejected.reason.as_str(), rejected.access_key.as_str()),
        ("all tokens are rejected", "ASIAEXAMPLE")
    );
    checks.reject_all(false).unwrap();
    checks.reject_all(false).unwrap();
    log_in_with_tls(&server, "app", &token).unwrap();
}

#[test]
fn an_expired_session_rejects_its_tokens_only() {
    let server = start_server();
    let checks = server.token_checks();
    let signed = system_time();
    let token = Token::new("app", signed);
    let other = token.clone().with(
        "X-Amz-Credential",
        credential("ASIAOTHER", &format_date(signed)),
    );
    checks
        .expire_session("ASIAEXAMPLE", system_time() + Duration::from_secs(3_600))
        .unwrap();
    log_in_with_tls(&server, "app", &token.text()).unwrap();
    checks.expire_session("ASIAEXAMPLE", system_time()).unwrap();
    log_in_with_tls(&server, "app", &token.text()).unwrap_err();
    assert_eq!(
        checks.entries().unwrap().last().unwrap().reason,
        "the signing session has expired"
    );
    log_in_with_tls(&server, "app", &other.text()).unwrap();
    checks.restore_session("ASIAEXAMPLE").unwrap();
    checks.restore_session("ASIAEXAMPLE").unwrap();
    log_in_with_tls(&server, "app", &token.text()).unwrap();
    for invalid_key in ["", "../checks", "a/b", "a b"] {
        assert_eq!(
            checks
                .expire_session(invalid_key, system_time())
                .unwrap_err()
                .kind(),
            ErrorKind::InvalidInput,
            "{invalid_key:?}"
        );
    }
}

#[test]
fn checks_continue_after_a_restart() {
    let server = start_server();
    let token = Token::new("app", system_time()).text();
    server.stop().unwrap();
    server.start_again().unwrap();
    log_in_with_tls(&server, "app", &token).unwrap();
    assert_eq!(server.token_checks().accepted().unwrap(), 1);
}

#[test]
fn a_server_without_tokens_has_no_checks() {
    let server = Postgres::start().unwrap();
    let checks = server.token_checks();
    for error in [
        checks.entries().map(drop),
        checks.from_now().map(drop),
        checks.accepted().map(drop),
        checks.reject_all(true),
        checks.reject_all(false),
        checks.expire_session("A", system_time()),
        checks.restore_session("A"),
    ] {
        let error = error.unwrap_err();
        assert!(error.to_string().contains("builder().tokens()"), "{error}");
    }
    server.create_token_role("app").unwrap_err();
}

#[test]
fn a_missing_compiler_is_an_error_with_the_command_that_installs_it() {
    let programs = Programs::from_environment().chosen(Server::Pam, "/nonexistent");
    let error = Postgres::builder()
        .programs(programs)
        .tokens()
        .start()
        .unwrap_err();
    assert!(matches!(error, StartError::NotInstalled(_)));
    assert!(error.to_string().contains("CLAVIGER_CC_BIN"), "{error}");
}
