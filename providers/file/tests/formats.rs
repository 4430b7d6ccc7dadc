//! Every format with valid content.

#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::time::Duration;

use claviger::Endpoint;
use claviger::error::ProviderErrorKind;
use claviger::lease::OldConnections;
use claviger_file::{FileFormat, FileProvider};
use common::{fetch_again, first_lease, parts, replace};

#[tokio::test]
async fn json_contains_credentials_and_endpoint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orders.json");
    fs::write(
        &path,
        r#"{"username":"orders","password":"s3cret","engine":"postgres",
            "host":"db","port":"6432","dbname":"shop"}"#,
    )
    .unwrap();
    let lease = first_lease(&FileProvider::json(&path).unwrap())
        .await
        .unwrap();
    assert_eq!(parts(&lease), ("orders", "s3cret"));
    assert_eq!(
        lease.secret().endpoint(),
        Some(&Endpoint::new("db", 6432, "shop"))
    );
    assert!(!lease.secret().is_token());
    assert!(lease.expiry().is_never());
    assert_eq!(lease.old_connections(), OldConnections::Drain);
}

#[tokio::test]
async fn json_keys_can_be_configured() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orders.json");
    fs::write(
        &path,
        r#"{"login":"orders","pw":"s3cret","username":"no","password":"no"}"#,
    )
    .unwrap();
    let provider = FileProvider::builder(&path, FileFormat::Json)
        .with_user_key("login")
        .with_password_key("pw")
        .build()
        .unwrap();
    assert_eq!(
        parts(&first_lease(&provider).await.unwrap()),
        ("orders", "s3cret")
    );

    fs::write(&path, r#"{"username":"no","pw":"s3cret"}"#).unwrap();
    let error = common::failure(&provider, ProviderErrorKind::Malformed).await;
    assert!(error.contains("the key \"login\" is missing"), "{error}");
}

#[tokio::test]
async fn a_directory_contains_a_file_for_each_field() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("username", "orders\n"),
        ("password", "s3cret\r\n"),
        ("DB_USER", "other"),
        ("DB_PASSWORD", " spaced \n\n"),
    ] {
        fs::write(dir.path().join(name), content).unwrap();
    }
    let lease = first_lease(&FileProvider::directory(dir.path()).unwrap())
        .await
        .unwrap();
    assert_eq!(parts(&lease), ("orders", "s3cret"));
    let provider = FileProvider::builder(dir.path(), FileFormat::Directory)
        .with_user_key("DB_USER")
        .with_password_key("DB_PASSWORD")
        .build()
        .unwrap();
    assert_eq!(
        parts(&first_lease(&provider).await.unwrap()),
        ("other", " spaced \n")
    );
}

#[tokio::test]
async fn a_url_contains_credentials_and_endpoint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("url");
    fs::write(
        &path,
        "postgres://orders:p%40ss@db:6432/shop?sslmode=verify-full\n",
    )
    .unwrap();
    let lease = first_lease(&FileProvider::url(&path).unwrap())
        .await
        .unwrap();
    assert_eq!(parts(&lease), ("orders", "p@ss"));
    assert_eq!(
        lease.secret().endpoint(),
        Some(&Endpoint::new("db", 6432, "shop"))
    );
}

#[tokio::test]
async fn a_password_file_uses_the_configured_user() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    fs::write(&path, "s3cret\n").unwrap();
    let provider = FileProvider::builder(&path, FileFormat::password("orders"))
        .with_token()
        .with_old_connections(OldConnections::Keep)
        .build()
        .unwrap();
    let lease = first_lease(&provider).await.unwrap();
    assert_eq!(parts(&lease), ("orders", "s3cret"));
    assert!(lease.secret().is_token());
    assert_eq!(lease.old_connections(), OldConnections::Keep);
}

#[tokio::test]
async fn unchanged_content_in_another_file_keeps_the_revision() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    fs::write(&path, "s3cret").unwrap();
    let provider = FileProvider::builder(&path, FileFormat::password("orders"))
        .with_poll_interval(Duration::from_secs(7))
        .build()
        .unwrap();
    let current = first_lease(&provider).await.unwrap();
    assert!(
        format!("{current:?}").contains("refresh_after: Some(7s)"),
        "{current:?}"
    );

    replace(&path, "s3cret\n");
    let same = fetch_again(&provider, &current).await.unwrap();
    assert!(
        std::ptr::eq(current.secret(), same.secret()),
        "clones share the secret"
    );

    replace(&path, "other");
    let new = fetch_again(&provider, &current).await.unwrap();
    assert_ne!(current.revision(), new.revision());
    assert_eq!(parts(&new), ("orders", "other"));

    // Another provider for the file returns the same revision.
    let lease = first_lease(&FileProvider::password(&path, "orders").unwrap())
        .await
        .unwrap();
    assert_eq!(lease.revision(), new.revision());
    assert_ne!(
        first_lease(&FileProvider::password(&path, "another").unwrap())
            .await
            .unwrap()
            .revision(),
        new.revision()
    );
}

#[cfg(unix)]
#[tokio::test]
async fn links_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("real"), "s3cret").unwrap();
    std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
    let lease = first_lease(&FileProvider::password(dir.path().join("link"), "orders").unwrap())
        .await
        .unwrap();
    assert_eq!(parts(&lease), ("orders", "s3cret"));
}

#[test]
fn debug_output_shows_the_path_and_the_user() {
    let provider = FileProvider::password("/run/secrets/orders", "orders_app").unwrap();
    let printed = format!("{provider:?}");
    assert!(
        printed.contains("/run/secrets/orders") && printed.contains("orders_app"),
        "{printed}"
    );
}
