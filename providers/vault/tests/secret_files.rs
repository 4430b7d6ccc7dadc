//! needs: openbao
//!
//! Files as Windows editors write them.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::provider::FetchRequest;
use claviger::{Credentials, Lease};
use claviger_testkit::FetchLease;
use claviger_vault::{Auth, SecretId, VaultKv, VaultSession};
use claviger_vault_fixtures::AsyncAdmin;
use serde_json::json;
use tempfile::NamedTempFile;

const BOM: &str = "\u{feff}";

fn file(content: impl AsRef<[u8]>) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    fs::write(&file, content).expect("it is written");
    file
}

async fn fetch(address: &str, auth: Auth) -> Result<Lease<Credentials>, ProviderError> {
    let session = VaultSession::new(address, auth).expect("the settings are valid");
    VaultKv::new(&session, "kv", "orders")
        .expect("a path")
        .fetch_lease(FetchRequest::first())
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_order_mark_is_no_part_of_a_token_or_a_secret_id() {
    let admin = AsyncAdmin::with_a_secret().await;
    let (token, role_id, secret_id) = admin
        .run(|admin| {
            Ok((
                admin.token(json!({}))?,
                admin.app_role(json!({}))?,
                admin.secret_id()?,
            ))
        })
        .await;
    let address = admin.admin.vault.address();
    let in_file = file(format!("{BOM}{token}\r\n"));
    fetch(&address, Auth::token_file(in_file.path()))
        .await
        .expect("a token");
    let in_file = file(format!("{BOM}{secret_id}\r\n"));
    fetch(
        &address,
        Auth::app_role(&*role_id, SecretId::file(in_file.path())),
    )
    .await
    .expect("a secret id");
    let wrapped = admin.run(|admin| admin.wrapped_secret_id(60)).await;
    let in_file = file(format!("{BOM}{wrapped}\r\n"));
    fetch(
        &address,
        Auth::app_role(role_id, SecretId::wrapped_file(in_file.path())),
    )
    .await
    .expect("a wrapping token");

    // Two marks, one at the end, and UTF-16 are no valid token.
    let utf_16 = [0xFF, 0xFE]
        .into_iter()
        .chain(token.bytes().flat_map(|byte| [byte, 0]))
        .collect::<Vec<_>>();
    for content in [
        format!("{BOM}{BOM}{token}").into_bytes(),
        format!("{token}{BOM}").into_bytes(),
        utf_16,
    ] {
        let in_file = file(content);
        let error = fetch(&address, Auth::token_file(in_file.path()))
            .await
            .expect_err("it is no token");
        assert_eq!(error.kind(), ProviderErrorKind::Malformed, "{error}");
        assert!(
            error.to_string().contains("one word in visible ASCII")
                && !error.to_string().contains(&token),
            "{error}"
        );
    }
    let in_file = file(BOM);
    let error = fetch(&address, Auth::token_file(in_file.path()))
        .await
        .expect_err("nothing is in it");
    assert!(
        error.is_transient() && error.to_string().contains("the file is empty"),
        "{error}"
    );
}
