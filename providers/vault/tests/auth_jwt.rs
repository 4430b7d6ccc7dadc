//! needs: openbao
//!
//! Logins by JSON Web Tokens, signed by a key of this test.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use claviger::Provider;
use claviger::error::ProviderErrorKind;
use claviger::lease::Timestamp;
use claviger_servers::JwtIssuer;
use claviger_vault::{Auth, VaultKv};
use claviger_vault_fixtures::AsyncAdmin;
use common::{fetch, kv, session};
use serde_json::json;
use tempfile::NamedTempFile;

/// Returns a token that is valid for `seconds` from now.
fn token(issuer: &JwtIssuer, subject: &str, seconds: i64) -> String {
    let now = Timestamp::now()
        .wall()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs();
    let ends = now.checked_add_signed(seconds).expect("a time");
    let claims = json!({ "sub": subject, "aud": "vault", "iat": ends - 600, "exp": ends });
    issuer.sign(&claims.to_string()).expect("it signs")
}

fn provider(admin: &AsyncAdmin, auth: Auth) -> VaultKv {
    kv(&session(admin.admin.vault.address(), auth))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_key_verifies_logs_in_and_no_other_does() {
    let (admin, issuer) = (
        AsyncAdmin::with_a_secret().await,
        JwtIssuer::new().expect("a key"),
    );
    let key = issuer.public_key();
    admin.run(move |admin| admin.jwt(&key)).await;
    let before = admin.run(|admin| admin.tokens()).await.len();
    let given = provider(&admin, Auth::jwt("orders", token(&issuer, "orders", 600)));
    assert_eq!(fetch(&given).await.expect("a lease").secret().user(), "app");
    assert_eq!(admin.run(|admin| admin.tokens()).await.len(), before + 1);
    given.close().await;
    assert_eq!(
        admin.run(|admin| admin.tokens()).await.len(),
        before,
        "its token is revoked"
    );

    let stranger = JwtIssuer::new().expect("another key");
    for (role, jwt) in [
        ("orders", token(&issuer, "orders", -600)),
        ("orders", token(&issuer, "others", 600)),
        ("orders", token(&stranger, "orders", 600)),
        ("orders", "no.such.token".to_owned()),
        ("absent", token(&issuer, "orders", 600)),
    ] {
        let error = fetch(&provider(&admin, Auth::jwt(role, &*jwt)))
            .await
            .expect_err("it is rejected");
        assert_eq!(error.kind(), ProviderErrorKind::Denied, "{error}");
        assert!(
            error
                .to_string()
                .contains("login at auth/jwt: the login is rejected; check"),
            "{error}"
        );
        assert!(!format!("{error} {error:?}").contains(&*jwt));
    }

    // A file is read again at each login.
    let file = NamedTempFile::new().expect("a file");
    fs::write(&file, token(&issuer, "orders", 600)).expect("it is written");
    let from_file = provider(&admin, Auth::jwt_file("orders", file.path()));
    fetch(&from_file).await.expect("a lease");
    fs::write(&file, token(&issuer, "orders", -600)).expect("it is written");
    fetch(&from_file).await.expect("a lease without a login");
    admin.run(|admin| admin.revoke_logins("jwt")).await;
    assert_eq!(
        fetch(&from_file).await.err().map(|error| error.kind()),
        Some(ProviderErrorKind::Denied),
        "the token in the file has expired"
    );
    fs::write(&file, token(&issuer, "orders", 600)).expect("it is written");
    let again = async {
        while fetch(&from_file).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), again)
        .await
        .expect("the next token is read");
}
