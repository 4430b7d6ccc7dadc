//! needs: redis
//!
//! TLS with a real server, and errors at construction and before the first connect.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::lease::OldConnections;
use claviger::{Credentials, Endpoint, Supervisor};
use claviger_fixtures::eventually;
use claviger_redis::RedisPools;
use claviger_redis::redis::AsyncCommands;
use claviger_servers::Redis;
use claviger_testkit::ScriptedProvider;

use common::{Setup, USER, address, pools};

fn pem(file: Option<&std::path::Path>) -> Vec<u8> {
    std::fs::read(file.expect("a server with TLS")).expect("a file")
}

/// Returns the error of a pool on this lease.
async fn error_of(pools: RedisPools, credentials: Credentials) -> ConnectError {
    let provider = ScriptedProvider::new();
    let lease = claviger::Lease::new(credentials, claviger::Revision::new("1"));
    provider.return_next(lease);
    let supervisor = Supervisor::builder()
        .with_start_deadline(Duration::from_millis(500))
        .start();
    let supervisor = supervisor.expect("valid settings");
    let credentials = supervisor.add_provider("credentials", provider);
    let credentials = credentials.await.expect("a lease");
    let added = supervisor.add_pool("cache", &credentials, pools).await;
    let error = added.map(drop).expect_err("no pool");
    error.connect_error().expect("its cause").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_with_tls_authenticates_again_with_tokens() {
    let server = Redis::builder().tls().start().expect("a server");
    let factory = |server: &Redis| {
        let pools = pools(server).with_ca_pem(pem(server.ca_file()));
        pools.expect("certificates")
    };
    let setup = Setup::on(server, OldConnections::Reauthenticate, factory).await;
    let mut guard = setup.cache.get().await.expect("a connection");
    eventually("one connection is open", || {
        setup.connection_ids().len() == 1
    })
    .await;
    let ids = setup.connection_ids();
    setup.change_password("token");
    let token = Credentials::new(USER, "token").with_password_as_token();
    let lease = claviger::Lease::new(token, claviger::Revision::new("token"));
    setup.provider.return_next(lease);
    setup.rotate_now().await;
    guard.set::<_, _, ()>("key", 1).await.expect("a command");
    setup.until_connections(&ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_is_misconfigured() {
    let server = Redis::builder().tls().start().expect("a server");
    server.set_user(USER, "password-1").expect("a user");
    let credentials = || Credentials::new(USER, "password-1");
    let unrelated = pools(&server).with_ca_pem(pem(server.unrelated_ca_file()));
    let error = error_of(unrelated.expect("certificates"), credentials()).await;
    assert_eq!(error.kind(), ConnectErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    // Without TLS the server closes the connection.
    let plain = address(&server).replace("rediss://", "redis://");
    let plain = RedisPools::new(plain).expect("an address");
    let error = error_of(plain, credentials()).await;
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable, "{error}");
    assert_eq!(server.rejected_logins().expect("a count"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_not_sent_in_clear_text() {
    let server = Redis::start().expect("a server");
    server.set_user(USER, "token").expect("a user");
    let token = || Credentials::new(USER, "token").with_password_as_token();
    let error = error_of(pools(&server), token()).await;
    assert_eq!(error.kind(), ConnectErrorKind::Misconfigured);
    assert!(error.message().starts_with("address has no TLS"), "{error}");
    assert!(error.message().contains("rediss://"), "{error}");
    assert_eq!(server.login_commands().expect("a count"), 0);
    let setup = Setup::new(OldConnections::Keep, |server| {
        pools(server).with_tokens_in_clear()
    })
    .await;
    let moved = claviger::Lease::new(token(), claviger::Revision::new("token"));
    setup.change_password("token");
    setup.provider.return_next(moved);
    setup.rotate_now().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_credentials_are_errors_that_name_the_field() {
    let server = Redis::start().expect("a server");
    let endpoint = |endpoint| Credentials::new(USER, "p").with_endpoint(endpoint);
    for (credentials, field) in [
        (Credentials::new("", "p"), "user"),
        (Credentials::new(USER, ""), "password"),
        (
            endpoint(Endpoint::server("cache:6379", 6_379)),
            "endpoint: the host",
        ),
        (
            endpoint(Endpoint::new("cache", 6_379, "orders")),
            "endpoint: the database",
        ),
    ] {
        let error = error_of(pools(&server), credentials).await;
        assert_eq!(error.kind(), ConnectErrorKind::Misconfigured);
        assert!(error.message().starts_with(field), "{error}");
    }
    assert_eq!(server.login_commands().expect("a count"), 0);
}

#[test]
fn invalid_settings_are_errors_that_name_the_field() {
    for (address, word) in [
        ("nonsense", "address"),
        ("redis://a b:6379", "address"),
        ("redis://cache:0", "port 0"),
        ("rediss://cache:6379/#insecure", "#insecure"),
    ] {
        let error = RedisPools::new(address).expect_err("invalid");
        assert_eq!(error.kind(), ConnectErrorKind::Misconfigured);
        assert!(error.message().contains(word), "{address}: {error}");
    }
    let secret = "redis://user:s3cret@ho st:6379";
    let error = RedisPools::new(secret).expect_err("invalid");
    assert!(!error.to_string().contains("s3cret"), "{error}");
    let tls = || RedisPools::new("rediss://cache:6379").expect("an address");
    let error = tls().with_ca_pem("nonsense").expect_err("no certificate");
    assert!(error.message().starts_with("ca_pem"), "{error}");
    let plain = RedisPools::new("redis://cache:6379").expect("an address");
    let ca = "-----BEGIN CERTIFICATE-----\n";
    let error = plain.with_ca_pem(ca).expect_err("no TLS");
    assert!(error.message().starts_with("certificates"), "{error}");
    let shown = format!("{:?}", RedisPools::new("redis://u:s3cret@cache:6379"));
    assert!(!shown.contains("s3cret"), "{shown}");
}
