//! needs: postgresql, pam
//!
//! Tokens, which PostgreSQL verifies as RDS does.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "support/client.rs"]
mod client;
#[path = "support/token.rs"]
mod token;

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use claviger_servers::{Postgres, Programs, Server, StartError};
use client::{answer, log_in};
use token::{Token, ago, credential, date, now};

fn server() -> Postgres {
    let server = Postgres::builder().tokens().start().unwrap();
    server.create_token_role("app").unwrap();
    server
}

/// Logs in over TLS with a verified certificate.
fn sign_in(server: &Postgres, user: &str, token: &str) -> Result<String, String> {
    let tls = format!(
        "sslmode=verify-full sslrootcert='{}'",
        server.ca_file().unwrap().display()
    );
    answer(&log_in(server, user, token, &tls))
}

/// Returns the token for another endpoint.
fn for_endpoint(token: &Token, endpoint: &str) -> String {
    Token {
        endpoint: endpoint.to_owned(),
        parameters: token.parameters.clone(),
    }
    .text()
}

/// Returns the token without that parameter.
fn without(token: &Token, name: &str) -> String {
    let mut token = token.clone();
    token.parameters.retain(|(known, _)| *known != name);
    token.text()
}

#[test]
fn a_valid_token_is_accepted_and_not_logged() {
    let server = server();
    let before = now();
    let token = Token::new("app", ago(60)).text();
    assert!(token.len() > 1_500);
    assert_eq!(sign_in(&server, "app", &token), Ok("app".to_owned()));

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
        check.checked_at + Duration::from_millis(1) >= before && check.checked_at <= now(),
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
    let server = server();
    let signed = ago(60);
    let good = Token::new("app", signed);
    let day = date(signed);
    let cases = [
        ("not a token", "no-token-at-all".to_owned()),
        ("a url", for_endpoint(&good, "https://db:5432")),
        ("no port", for_endpoint(&good, "db")),
        ("port 0", for_endpoint(&good, "db:0")),
        ("a large port", for_endpoint(&good, "db:65536")),
        ("no host", for_endpoint(&good, ":5432")),
        ("bare IPv6", for_endpoint(&good, "::1:5432")),
        (
            "another action",
            good.clone().with("Action", "Connect").text(),
        ),
        ("another user", good.clone().with("DBUser", "app2").text()),
        ("no user", without(&good, "DBUser")),
        ("a bad escape", good.clone().with("DBUser", "app%2").text()),
        (
            "another algorithm",
            good.clone()
                .with("X-Amz-Algorithm", "AWS4-HMAC-SHA1")
                .text(),
        ),
        ("no credential", without(&good, "X-Amz-Credential")),
        (
            "another service",
            good.clone()
                .with(
                    "X-Amz-Credential",
                    credential("ASIAEXAMPLE", &day).replace("rds-db", "rds"),
                )
                .text(),
        ),
        (
            "another day",
            good.clone()
                .with("X-Amz-Credential", credential("ASIAEXAMPLE", "20200102"))
                .text(),
        ),
        (
            "no key",
            good.clone()
                .with("X-Amz-Credential", credential("", &day))
                .text(),
        ),
        ("no date", without(&good, "X-Amz-Date")),
        (
            "an odd date",
            good.clone()
                .with("X-Amz-Date", "2026-01-02T03:04:05Z")
                .text(),
        ),
        ("no expiry", without(&good, "X-Amz-Expires")),
        ("901 s", good.clone().with("X-Amz-Expires", "901").text()),
        ("0 s", good.clone().with("X-Amz-Expires", "0").text()),
        ("no signature", without(&good, "X-Amz-Signature")),
        (
            "half a signature",
            good.clone().with("X-Amz-Signature", "ab".repeat(31)).text(),
        ),
        (
            "no hex",
            good.clone().with("X-Amz-Signature", "g".repeat(64)).text(),
        ),
        ("twice", format!("{}&DBUser=app", good.text())),
        ("expired", Token::new("app", ago(901)).text()),
        (
            "expired early",
            Token::new("app", ago(3)).with("X-Amz-Expires", "2").text(),
        ),
        (
            "future",
            Token::new("app", now() + Duration::from_secs(310)).text(),
        ),
    ];
    let mut reasons = Vec::new();
    for (name, token) in &cases {
        let since = server.token_checks().from_now().unwrap();
        let rejection = sign_in(&server, "app", token).unwrap_err();
        assert!(
            rejection.contains("PAM authentication failed for user \"app\""),
            "{name}: {rejection}"
        );
        let [check] = since.entries().unwrap().try_into().unwrap();
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
    let server = server();
    let good = Token::new("app", ago(899 - 30));
    for (name, token) in [
        ("ipv6", for_endpoint(&good, "[::1]:5432")),
        ("mixed case", for_endpoint(&good, "DB.Example.COM:1")),
        (
            "a clock ahead",
            Token::new("app", now() + Duration::from_secs(280)).text(),
        ),
        ("no session token", without(&good, "X-Amz-Security-Token")),
        (
            "long",
            good.clone()
                .with("X-Amz-Security-Token", "x".repeat(4_000))
                .text(),
        ),
        (
            "an unknown parameter",
            format!("{}&X-Amz-New=1", good.text()),
        ),
    ] {
        assert_eq!(
            sign_in(&server, "app", &token),
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
            sign_in(&server, user, &Token::new(user, now()).text()).as_deref(),
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
    // As from a client that does not encode the name: a plus is a space.
    let raw = Token::new("app", now())
        .with("DBUser", "first.last+x@corp")
        .text();
    sign_in(&server, "first.last+x@corp", &raw).unwrap_err();
}

#[test]
fn a_token_requires_tls_and_passwords_are_rejected() {
    let server = server();
    let token = Token::new("app", now()).text();
    let rejection = answer(&log_in(&server, "app", &token, "sslmode=disable")).unwrap_err();
    assert!(rejection.contains("pg_hba.conf rejects"), "{rejection}");
    assert_eq!(server.token_checks().entries().unwrap(), []);

    server.set_password("app", "right").unwrap();
    sign_in(&server, "app", "right").unwrap_err();
    server.create_role("other", "right").unwrap();
    sign_in(&server, "other", "right").unwrap();
    answer(&log_in(&server, "other", "right", "sslmode=disable")).unwrap();
    sign_in(&server, "other", &Token::new("other", now()).text()).unwrap_err();
    assert_eq!(server.token_checks().entries().unwrap().len(), 1);
}

#[test]
fn all_tokens_are_rejected_while_configured() {
    let server = server();
    let checks = server.token_checks();
    let token = Token::new("app", now()).text();
    checks.reject_all(true).unwrap();
    checks.reject_all(true).unwrap();
    sign_in(&server, "app", &token).unwrap_err();
    let rejected = checks.entries().unwrap().pop().unwrap();
    assert_eq!(
        (rejected.reason.as_str(), rejected.access_key.as_str()),
        ("all tokens are rejected", "ASIAEXAMPLE")
    );
    checks.reject_all(false).unwrap();
    checks.reject_all(false).unwrap();
    sign_in(&server, "app", &token).unwrap();
}

#[test]
fn an_expired_session_rejects_its_tokens_only() {
    let server = server();
    let checks = server.token_checks();
    let signed = now();
    let token = Token::new("app", signed);
    let other = token
        .clone()
        .with("X-Amz-Credential", credential("ASIAOTHER", &date(signed)));
    checks
        .expire_session("ASIAEXAMPLE", now() + Duration::from_secs(3_600))
        .unwrap();
    sign_in(&server, "app", &token.text()).unwrap();
    checks.expire_session("ASIAEXAMPLE", now()).unwrap();
    sign_in(&server, "app", &token.text()).unwrap_err();
    assert_eq!(
        checks.entries().unwrap().last().unwrap().reason,
        "the signing session has expired"
    );
    sign_in(&server, "app", &other.text()).unwrap();
    checks.restore_session("ASIAEXAMPLE").unwrap();
    checks.restore_session("ASIAEXAMPLE").unwrap();
    sign_in(&server, "app", &token.text()).unwrap();
    for slip in ["", "../checks", "a/b", "a b"] {
        assert_eq!(
            checks.expire_session(slip, now()).unwrap_err().kind(),
            ErrorKind::InvalidInput,
            "{slip:?}"
        );
    }
}

#[test]
fn checks_continue_after_a_restart() {
    let server = server();
    let token = Token::new("app", now()).text();
    server.stop().unwrap();
    server.start_again().unwrap();
    sign_in(&server, "app", &token).unwrap();
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
        checks.expire_session("A", now()),
        checks.restore_session("A"),
    ] {
        let error = error.unwrap_err();
        assert!(error.to_string().contains("builder().tokens()"), "{error}");
    }
    server.create_token_role("app").unwrap_err();
}

#[test]
fn a_missing_compiler_is_an_error_with_the_command_that_installs_it() {
    let places = Programs::from_environment().chosen(Server::Pam, "/nonexistent");
    let error = Postgres::builder()
        .programs(places)
        .tokens()
        .start()
        .unwrap_err();
    assert!(matches!(error, StartError::NotInstalled(_)));
    assert!(error.to_string().contains("CLAVIGER_CC_BIN"), "{error}");
}
