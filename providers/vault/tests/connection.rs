//! needs: openbao
//!
//! Connections to the server: TLS, namespaces, timeouts, and the errors when they fail.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::time::Duration;

use claviger::Provider;
use claviger::error::ProviderErrorKind;
use claviger::provider::FetchRequest;
use claviger_fixtures::eventually_within;
use claviger_servers::openbao::OpenBaoBuilder;
use claviger_servers::{InjectedFault, OpenBao};
use claviger_testkit::FetchLease;
use claviger_vault::{Auth, SecretId, VaultSession, VaultStatic};
use claviger_vault_fixtures::AsyncAdmin;
use common::{assert_permanent, fetch, kv, registration_error};
use rcgen::{CertificateParams, IsCa, KeyPair, date_time_ymd};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_trusted_by_the_configured_authority_alone() {
    let admin = AsyncAdmin::start_with(OpenBaoBuilder::default().tls()).await;
    let token = admin
        .run(|admin| {
            admin.kv(&json!({ "username": "app", "password": "password-1" }))?;
            admin.token(json!({}))
        })
        .await;
    let vault = &admin.admin.vault;
    let (address, own) = (
        vault.tls_address().expect("it speaks TLS"),
        vault.ca_file().expect("it has an authority").to_owned(),
    );
    let unrelated = own.with_file_name("unrelated-ca.pem");
    let session = |address: &str| VaultSession::builder(address, Auth::token(&*token));
    let good = session(&address)
        .with_ca_file(&own)
        .build()
        .expect("the settings are valid");
    assert_eq!(
        fetch(&kv(&good))
            .await
            .expect("there is a lease")
            .secret()
            .user(),
        "app"
    );
    // Also by the host name in the certificate, and with several authorities in one file.
    let both = tempfile::NamedTempFile::new().expect("a file");
    let pem = |file| fs::read_to_string(file).expect("it can be read");
    fs::write(&both, format!("{}\n{}", pem(&unrelated), pem(&own))).expect("it is written");
    let good = session(&address.replace("127.0.0.1", "localhost"))
        .with_ca_file(both.path())
        .build()
        .expect("the settings are valid");
    fetch(&kv(&good)).await.expect("there is a lease");

    // With a byte order mark, and a comment in Latin-1.
    let commented = [
        b"\xEF\xBB\xBF",
        pem(&own).as_bytes(),
        b"\n# Autorit\xE9 de certification\n",
    ]
    .concat();
    fs::write(&both, commented).expect("it is written");
    let good = session(&address)
        .with_ca_file(both.path())
        .build()
        .expect("the settings are valid");
    fetch(&kv(&good)).await.expect("there is a lease");

    // Neither the system's authorities nor the other one signed it. The error is permanent and not
    // retried.
    for bad in [
        session(&address),
        session(&address).with_ca_file(&unrelated),
    ] {
        let session = bad.build().expect("the settings are valid");
        assert_permanent(
            &registration_error(kv(&session)).await,
            ProviderErrorKind::Misconfigured,
            "certificate is not trusted; set its CA certificate by \"ca_file\"",
        );
    }
    // Plain text to a TLS port, and the other way round: a server responds, in another protocol.
    for (address, expected) in [
        (
            address.replace("https", "http"),
            "the server requires TLS; set an address that begins with https",
        ),
        (
            vault.address().replace("http", "https"),
            "the server does not speak TLS; set an address that begins with http:",
        ),
    ] {
        let session = session(&address).build().expect("the settings are valid");
        let error = fetch(&kv(&session))
            .await
            .expect_err("the protocols differ");
        assert_permanent(&error, ProviderErrorKind::Misconfigured, expected);
    }
}

/// Writes the server a certificate for this host with these years of validity, and returns its own
/// PEM text, which is its authority.
fn certificate(admin: &AsyncAdmin, host: &str, years: [i32; 2]) -> String {
    let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
    params.is_ca = IsCa::ExplicitNoCa;
    [params.not_before, params.not_after] = years.map(|year| date_time_ymd(year, 1, 1));
    let key = KeyPair::generate().expect("a key");
    let pem = params.self_signed(&key).expect("signed").pem();
    let ca_file = admin.admin.vault.ca_file().expect("it speaks TLS");
    for (file, text) in [("server.pem", &pem), ("server.key", &key.serialize_pem())] {
        fs::write(ca_file.with_file_name(file), text).expect("it is written");
    }
    pem
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_expired_or_of_another_host_is_named() {
    let admin = AsyncAdmin::start_with(OpenBaoBuilder::default().tls()).await;
    let address = admin.admin.vault.tls_address().expect("it speaks TLS");
    let authority = tempfile::NamedTempFile::new().expect("a file");
    for (host, years, kind, expected) in [
        (
            "127.0.0.1",
            [2000, 2001],
            ProviderErrorKind::Unavailable,
            "Vault's certificate has expired; renew it",
        ),
        (
            "127.0.0.1",
            [2090, 2091],
            ProviderErrorKind::Unavailable,
            "Vault's certificate is not valid yet; check this machine's clock",
        ),
        (
            "vault.example.com",
            [2000, 2090],
            ProviderErrorKind::Misconfigured,
            "Vault's certificate is for another host; set the host",
        ),
    ] {
        fs::write(&authority, certificate(&admin, host, years)).expect("it is written");
        admin
            .run(|admin| {
                admin.vault.stop()?;
                Ok(admin.vault.start_again()?)
            })
            .await;
        let session = VaultSession::builder(&address, Auth::token("token"));
        let session = session.with_ca_file(authority.path());
        let session = session.build().expect("the settings are valid");
        let error = fetch(&kv(&session)).await.expect_err("it is not trusted");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_sent_with_every_request() {
    let admin = AsyncAdmin::start().await;
    // OpenBao has namespaces. Vault's community edition has none, and silently ignores the header.
    let has_namespaces = admin
        .run(|admin| {
            Ok(admin
                .vault
                .request("POST", "sys/namespaces/team", Some("{}"))?
                .is_success())
        })
        .await;
    let prefix = if has_namespaces { "team/" } else { "" };
    let (role_id, secret_id) = admin
        .run(move |admin| {
            let write = |path: &str, body| admin.write(&format!("{prefix}{path}"), &body);
            let policy = r#"path "database/static-creds/*" { capabilities = ["read"] }"#;
            write("sys/policies/acl/team", json!({ "policy": policy }))?;
            write("sys/mounts/database", json!({ "type": "database" }))?;
            write("sys/auth/approle", json!({ "type": "approle" }))?;
            write(
                "auth/approle/role/team",
                json!({ "token_policies": ["team"] }),
            )?;
            let role = admin.read(&format!("{prefix}auth/approle/role/team/role-id"))?;
            let secret = write("auth/approle/role/team/secret-id", json!({}))?;
            Ok((
                claviger_vault_fixtures::text(&role["data"]["role_id"])?,
                claviger_vault_fixtures::text(&secret["data"]["secret_id"])?,
            ))
        })
        .await;
    let proxy = admin.proxy();
    let builder = || {
        VaultSession::builder(
            proxy.endpoint(),
            Auth::app_role(&*role_id, SecretId::given(&*secret_id)),
        )
    };
    // Login and permission work in the namespace. Its database engine reports that it has no such
    // role.
    let session = builder()
        .with_namespace("team")
        .build()
        .expect("the settings are valid");
    let role = VaultStatic::new(&session, "database", "absent").expect("a role");
    let error = role
        .fetch_lease(FetchRequest::first())
        .await
        .expect_err("there is no such role");
    assert!(
        error.to_string().contains("there is no such role"),
        "{error}"
    );
    role.close().await;
    assert_eq!(proxy.requests("/v1/auth/token/revoke-self"), 1);

    if has_namespaces {
        let error = fetch(&kv(&builder().build().expect("the settings are valid")))
            .await
            .expect_err("the role is in the namespace");
        assert!(
            !error.is_transient() && error.to_string().contains("login at auth/approle"),
            "{error}"
        );
        let absent = builder()
            .with_namespace("absent")
            .build()
            .expect("the settings are valid");
        let error = fetch(&kv(&absent)).await.expect_err("there is none");
        assert!(
            error.to_string().contains("login at auth/approle"),
            "{error}"
        );
        let named = "there is no namespace \"absent\"; set \"namespace\" to an existing one";
        assert_permanent(&error, ProviderErrorKind::NotFound, named);
        // A login with a token looks it up.
        let token = admin.run(|admin| admin.token(json!({}))).await;
        let absent = VaultSession::builder(proxy.endpoint(), Auth::token(token));
        let absent = absent.with_namespace("absent").build();
        let error = fetch(&kv(&absent.expect("the settings are valid"))).await;
        let error = error.expect_err("there is none");
        assert_permanent(&error, ProviderErrorKind::NotFound, named);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_times_out_after_the_configured_time() {
    let admin = AsyncAdmin::with_a_secret().await;
    let proxy = admin.proxy();
    let token = admin.run(|admin| admin.token(json!({}))).await;
    let session = VaultSession::builder(proxy.endpoint(), Auth::token(token))
        .with_timeout(Duration::from_secs(1));
    let session = session.build().expect("the settings are valid");
    proxy.fault_on("/v1/kv/data/orders", InjectedFault::Stall);
    let error = fetch(&kv(&session))
        .await
        .expect_err("there is no response");
    assert_eq!(
        (error.kind(), error.is_transient()),
        (ProviderErrorKind::TimedOut, true),
        "{error}"
    );
    proxy.fault_on("/v1/kv/data/orders", InjectedFault::Cut);
    let error = fetch(&kv(&session))
        .await
        .expect_err("the response is cut off");
    assert_eq!(
        (error.kind(), error.is_transient()),
        (ProviderErrorKind::Unavailable, true),
        "{error}"
    );
    proxy.heal();
    fetch(&kv(&session)).await.expect("there is a lease");
    let nowhere = VaultSession::new("http://127.0.0.1:1", Auth::token("token"))
        .expect("the settings are valid");
    let error = fetch(&kv(&nowhere)).await.expect_err("no server is there");
    assert!(
        error.kind() == ProviderErrorKind::Unavailable
            && error.to_string().contains("cannot be reached"),
        "{error}"
    );
}

/// The server's state is reported although no login succeeded.
#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_server_is_reported_at_login() {
    let vault = tokio::task::spawn_blocking(|| OpenBao::start().expect("a server starts"))
        .await
        .expect("no panic");
    vault.seal().expect("it is sealed");
    let auth = Auth::app_role("role", SecretId::given("secret-id"));
    let session = VaultSession::new(vault.address(), auth).expect("the settings are valid");
    let error = fetch(&kv(&session)).await.expect_err("it is sealed");
    assert_eq!(
        (error.kind(), error.is_transient()),
        (ProviderErrorKind::Unavailable, true),
        "{error}"
    );
    assert!(
        error.to_string().contains("Vault is sealed; unseal it"),
        "{error}"
    );
}

/// A standby may not yet have the token that the active node has just issued.
#[tokio::test(flavor = "multi_thread")]
async fn one_403_right_after_the_login_does_not_fail_the_start() {
    let admin = AsyncAdmin::with_a_secret().await;
    let token = admin.run(|admin| admin.token(json!({}))).await;
    for (operation, body) in [
        ("/v1/kv/data/orders", r#"{"errors":["permission denied"]}"#),
        (
            "/v1/kv/data/orders",
            r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#,
        ),
        (
            "/v1/kv/data/orders",
            r#"{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}"#,
        ),
        (
            "/v1/auth/token/lookup-self",
            r#"{"errors":["permission denied","invalid token"]}"#,
        ),
    ] {
        let proxy = admin.proxy();
        let session = VaultSession::new(proxy.endpoint(), Auth::token(&*token))
            .expect("the settings are valid");
        proxy.fault_on(operation, InjectedFault::reply(403, body));
        let healed = eventually_within(Duration::from_secs(10), "it is denied", || {
            proxy.requests(operation) >= 1
        });
        let provider = kv(&session);
        let (fetched, ()) = tokio::join!(fetch(&provider), async {
            healed.await;
            proxy.heal();
        });
        fetched.expect(operation);
        assert_eq!(proxy.requests(operation), 2, "{operation} {body}");
    }
}
