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
fn a_version_written_anew_is_another_one() {
    let of = |version: &Version| kv().revision(version).unwrap();
    let first = version(1, "2026-01-01T00:00:00Z", "", false);
    assert_eq!(of(&first), of(&first.clone()));
    assert_ne!(
        of(&first),
        of(&version(1, "2026-01-02T00:00:00Z", "", false))
    );
    assert_ne!(
        of(&first),
        of(&version(2, "2026-01-01T00:00:00Z", "", false))
    );
}

#[test]
fn a_version_that_is_gone_is_told_so() {
    for (gone, word) in [
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
        let error = kv().revision(&gone).unwrap_err();
        assert_eq!(error.kind(), ProviderErrorKind::NotFound);
        assert!(error.to_string().contains(word), "{error}");
    }
    // It will be, one day.
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
fn a_path_of_the_api_gets_the_advice_to_leave_its_prefix_out() {
    let session = VaultSession::new("http://127.0.0.1:1", Auth::token("t")).unwrap();
    let explained = |mount: &str, path: &str, status| {
        let failure = CallError::Status {
            status,
            texts: vec!["1 error occurred".to_owned()],
            retry_after: None,
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
