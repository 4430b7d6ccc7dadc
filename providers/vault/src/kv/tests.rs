#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::auth::Auth;

fn kv() -> VaultKv {
    let session = VaultSession::new("http://127.0.0.1:1", Auth::token("t")).unwrap();
    VaultKv::new(&session, "secret", "prod/orders").unwrap()
}

fn version(number: u64, created: &str, deleted: &str, destroyed: bool) -> Version {
    Version {
        version: number,
        created_time: created.to_owned(),
        deletion_time: deleted.to_owned(),
        destroyed,
    }
}

#[test]
fn a_version_that_is_written_again_has_another_revision() {
    let revision = |version: &Version| kv().revision(version).unwrap();
    let first = version(1, "2026-01-01T00:00:00Z", "", false);
    assert_eq!(revision(&first), revision(&first.clone()));
    assert_ne!(
        revision(&first),
        revision(&version(1, "2026-01-02T00:00:00Z", "", false))
    );
    assert_ne!(
        revision(&first),
        revision(&version(2, "2026-01-01T00:00:00Z", "", false))
    );
}

#[test]
fn a_deleted_version_is_not_found() {
    for (deleted, word) in [
        (
            version(
                3,
                "2026-01-01T00:00:00Z",
                "2026-01-02T00:00:00.123456789Z",
                false,
            ),
            "version 3 was deleted",
        ),
        (
            version(3, "2026-01-01T00:00:00Z", "no time", false),
            "version 3 was deleted",
        ),
        (
            version(3, "2026-01-01T00:00:00Z", "", true),
            "version 3 was destroyed",
        ),
    ] {
        let error = kv().revision(&deleted).unwrap_err();
        assert_eq!(error.kind(), ProviderErrorKind::NotFound);
        assert!(error.to_string().contains(word), "{error}");
    }
    // Its deletion is scheduled for later.
    assert!(
        kv().revision(&version(
            3,
            "2026-01-01T00:00:00Z",
            "9999-01-01T00:00:00Z",
            false
        ))
        .is_ok()
    );
}

#[test]
fn the_error_for_an_api_path_advises_to_omit_its_prefix() {
    let session = VaultSession::new("http://127.0.0.1:1", Auth::token("t")).unwrap();
    let explained = |mount: &str, path: &str, status| {
        let failure = CallError::Status {
            status,
            texts: vec!["1 error occurred".to_owned()],
            retry_after: None,
            namespace: None,
        };
        VaultKv::new(&session, mount, path)
            .unwrap()
            .explain(SessionError::Call(failure), "P")
            .to_string()
    };
    for status in [403, 404] {
        for (mount, path) in [
            ("secret", "data/prod/orders"),
            ("secret/data", "prod/orders"),
            ("secret", "metadata/prod"),
        ] {
            let error = explained(mount, path, status);
            assert!(error.contains("without `data/` or `metadata/`"), "{error}");
        }
        assert!(!explained("secret", "prod/data", status).contains("without `data/`"));
    }
}

#[test]
fn an_empty_key_is_an_error_at_construction() {
    let session = VaultSession::new("http://127.0.0.1:1", Auth::token("t")).unwrap();
    let builder = || VaultKv::builder(&session, "secret", "prod/orders");
    for (builder, setting) in [
        (builder().with_user_key(""), "\"user_key\""),
        (builder().with_password_key(""), "\"password_key\""),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ProviderErrorKind::Misconfigured);
        assert!(error.to_string().starts_with(setting), "{error}");
    }
}
