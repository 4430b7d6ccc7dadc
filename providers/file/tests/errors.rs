//! Every way in which files can be invalid, and its error.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use claviger::error::ProviderErrorKind;
use claviger::provider::FetchRequest;
use claviger::report::RotationTrigger;
use claviger::{Provider, Supervisor};
use claviger_file::{FileFormat, FileProvider};
use common::{BOUND, failure, fetch_again, first_lease, parts};
use tokio::time::timeout;

const CANARY: &str = "CANARY";

/// Checks the error for a file with this content, in each format with a single file.
async fn check_single_file_formats(content: &[u8], kind: ProviderErrorKind, expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("login");
    fs::write(&path, content).unwrap();
    for provider in [
        FileProvider::json(&path),
        FileProvider::url(&path),
        FileProvider::password(&path, "orders"),
    ] {
        let error = failure(&provider.unwrap(), kind).await;
        assert!(
            error.contains(expected) && error.contains(path.to_str().unwrap()),
            "{error}"
        );
        assert!(!error.contains(CANARY), "{error}");
    }
}

#[tokio::test]
async fn a_missing_file_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing");
    for provider in [
        FileProvider::json(&path),
        FileProvider::url(&path),
        FileProvider::password(&path, "u"),
        FileProvider::directory(&path),
    ] {
        let error = failure(&provider.unwrap(), ProviderErrorKind::NotFound).await;
        assert!(
            error.contains("does not exist") && error.contains(path.to_str().unwrap()),
            "{error}"
        );
    }
    fs::write(dir.path().join("username"), "orders").unwrap();
    let error = failure(
        &FileProvider::directory(dir.path()).unwrap(),
        ProviderErrorKind::NotFound,
    )
    .await;
    assert!(error.contains("/password: does not exist"), "{error}");
}

#[tokio::test]
async fn a_dangling_link_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("nothing", dir.path().join("..data")).unwrap();
    failure(
        &FileProvider::directory(dir.path()).unwrap(),
        ProviderErrorKind::NotFound,
    )
    .await;
    failure(
        &FileProvider::json(dir.path().join("..data")).unwrap(),
        ProviderErrorKind::NotFound,
    )
    .await;
}

#[tokio::test]
async fn a_file_and_a_directory_are_not_interchangeable() {
    let dir = tempfile::tempdir().unwrap();
    let error = failure(
        &FileProvider::json(dir.path()).unwrap(),
        ProviderErrorKind::Misconfigured,
    )
    .await;
    assert!(
        error.contains("is a directory") && error.contains("the format \"directory\""),
        "{error}"
    );

    let path = dir.path().join("file");
    fs::write(&path, CANARY).unwrap();
    let error = failure(
        &FileProvider::directory(&path).unwrap(),
        ProviderErrorKind::Misconfigured,
    )
    .await;
    assert!(
        error.contains("is a file; set its directory") && !error.contains(CANARY),
        "{error}"
    );
    failure(
        &FileProvider::json(path.join("below")).unwrap(),
        ProviderErrorKind::Misconfigured,
    )
    .await;
}

#[tokio::test]
async fn an_empty_file_is_malformed() {
    check_single_file_formats(b"", ProviderErrorKind::Malformed, "is empty").await;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("password"), "\n").unwrap();
    let error = failure(
        &FileProvider::password(dir.path().join("password"), "u").unwrap(),
        ProviderErrorKind::Malformed,
    )
    .await;
    assert!(error.contains("is empty"), "{error}");
    fs::write(dir.path().join("username"), "").unwrap();
    let error = failure(
        &FileProvider::directory(dir.path()).unwrap(),
        ProviderErrorKind::Malformed,
    )
    .await;
    assert!(error.contains("/username: is empty"), "{error}");
}

#[tokio::test]
async fn invalid_utf_8_is_malformed_and_its_position_is_reported() {
    check_single_file_formats(
        b"CANARY\xffCANARY",
        ProviderErrorKind::Malformed,
        "not UTF-8 at byte 6",
    )
    .await;
}

#[tokio::test]
async fn a_file_over_the_limit_is_malformed() {
    check_single_file_formats(
        CANARY.repeat(12_000).as_bytes(),
        ProviderErrorKind::Malformed,
        "longer than 64 KiB",
    )
    .await;
}

#[tokio::test]
async fn a_huge_file_is_not_read_beyond_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse");
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    let fetched = timeout(
        BOUND,
        failure(
            &FileProvider::password(&path, "u").unwrap(),
            ProviderErrorKind::Malformed,
        ),
    )
    .await;
    assert!(fetched.unwrap().contains("longer than 64 KiB"));
}

#[tokio::test]
async fn a_nul_is_malformed() {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("password", "CAN\0ARY"),
        ("username", "orders"),
        ("json", r#"{"user":"\u0000","password":"CANARY"}"#),
        ("url", "mysql://u:%00@h/d"),
    ] {
        fs::write(dir.path().join(name), content).unwrap();
    }
    for provider in [
        FileProvider::password(dir.path().join("password"), "u"),
        FileProvider::directory(dir.path()),
        FileProvider::json(dir.path().join("json")),
        FileProvider::url(dir.path().join("url")),
    ] {
        let error = failure(&provider.unwrap(), ProviderErrorKind::Malformed).await;
        assert!(error.contains("NUL"), "{error}");
    }
}

#[tokio::test]
async fn invalid_json_is_malformed_and_its_position_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("json");
    let provider = FileProvider::json(&path).unwrap();
    for (content, expected) in [
        (
            "{\n  \"username\": \"u\",\n  \"password\": CANARY\n}",
            "not JSON at line 3, column 15",
        ),
        (
            "{\"username\": \"u\", \"password\": \"CANARY",
            "ends early, at line 1",
        ),
        (
            "{\"username\": \"u\", \"password\": [\"CANARY\"]}",
            "the key \"password\" must be a string",
        ),
        ("{\"username\": \"u\"}", "the key \"password\" is missing"),
        (
            "{\"username\": \"u\", \"password\": \"CANARY\", \"host\": \"postgres://u:CANARY@h/d\"}",
            "the key \"host\" is a URL",
        ),
    ] {
        fs::write(&path, content).unwrap();
        let error = failure(&provider, ProviderErrorKind::Malformed).await;
        assert!(
            error.contains(expected) && !error.contains(CANARY),
            "{error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalid_host_fails_a_registration_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("login");
    let supervisor = Supervisor::start();
    for (host, expected) in [
        ("CANARY:5432:1", "port"),
        ("CANARY,b", "several hosts"),
        ("CANARY:1,b:2", "several hosts"),
        ("CANARY%20b", "white space"),
        ("postgres%3A%2F%2FCANARY%2Fd", "is a URL"),
        ("postgres://CANARY", "is a URL"),
    ] {
        let decoded = host
            .replace("%20", " ")
            .replace("%3A", ":")
            .replace("%2F", "/");
        let json = format!(r#"{{"user":"u","password":"p","host":"{decoded}","dbname":"d"}}"#);
        for (provider, content) in [
            (FileProvider::url(&path), format!("postgres://u:p@{host}/d")),
            (FileProvider::json(&path), json),
        ] {
            fs::write(&path, content).unwrap();
            let began = tokio::time::Instant::now();
            let error = supervisor
                .add_provider("login", provider.unwrap())
                .await
                .unwrap_err()
                .to_string();
            assert!(
                began.elapsed() < Duration::from_secs(1),
                "{:?}",
                began.elapsed()
            );
            assert!(
                error.contains("host") && error.contains(expected) && error.contains("malformed"),
                "{error}"
            );
            assert!(!error.contains(CANARY), "{error}");
        }
    }
}

#[test]
fn a_pipe_or_device_does_not_block_a_fetch() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&pipe, &link).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let fetching = async {
        for path in [pipe.as_path(), link.as_path(), Path::new("/dev/zero")] {
            let error = failure(
                &FileProvider::password(path, "u").unwrap(),
                ProviderErrorKind::Misconfigured,
            )
            .await;
            assert!(error.contains("pipe, socket or device"), "{error}");
        }
    };
    let fetched = runtime.block_on(async { timeout(BOUND, fetching).await });
    // Does not wait for a blocked thread.
    runtime.shutdown_background();
    assert!(fetched.is_ok());
}

#[tokio::test]
async fn invalid_arguments_fail_at_construction() {
    for (result, expected) in [
        (FileProvider::json(""), "\"path\""),
        (FileProvider::directory("/run/\0"), "\"path\""),
        (FileProvider::password("/run/password", ""), "\"user\""),
        (FileProvider::password("/run/password", "a\0b"), "\"user\""),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ProviderErrorKind::Misconfigured);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn an_invalid_setting_fails_at_construction() {
    let day = Duration::from_secs(24 * 3_600);
    for (result, expected) in [
        (
            FileProvider::builder("/x", FileFormat::Json)
                .with_poll_interval(Duration::from_millis(999))
                .build(),
            "\"poll_interval\"",
        ),
        (
            FileProvider::builder("/x", FileFormat::Json)
                .with_poll_interval(Duration::ZERO)
                .build(),
            "\"poll_interval\"",
        ),
        (
            FileProvider::builder("/x", FileFormat::Json)
                .with_poll_interval(day + Duration::from_nanos(1))
                .build(),
            "\"poll_interval\"",
        ),
        (
            FileProvider::builder("/x", FileFormat::Json)
                .with_user_key("")
                .build(),
            "\"user_key\"",
        ),
        (
            FileProvider::builder("/x", FileFormat::Json)
                .with_password_key("")
                .with_poll_interval(Duration::ZERO)
                .build(),
            "\"password_key\"",
        ),
        (
            FileProvider::builder("/x", FileFormat::Directory)
                .with_user_key("../username")
                .build(),
            "\"user_key\"",
        ),
        (
            FileProvider::builder("/x", FileFormat::Directory)
                .with_password_key("a/b")
                .build(),
            "\"password_key\"",
        ),
        (
            FileProvider::builder("/x", FileFormat::Directory)
                .with_password_key("..")
                .build(),
            "\"password_key\"",
        ),
        (
            FileProvider::builder("/x", FileFormat::Directory)
                .with_password_key("/etc/shadow")
                .build(),
            "\"password_key\"",
        ),
        (
            FileProvider::builder("/x", FileFormat::Url)
                .with_user_key("user")
                .build(),
            "\"user_key\"",
        ),
        (
            FileProvider::builder("/x", FileFormat::password("u"))
                .with_password_key("password")
                .build(),
            "\"password_key\"",
        ),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ProviderErrorKind::Misconfigured);
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    let provider = FileProvider::json("/nothing/x").unwrap();
    for poll in [Duration::from_secs(1), day] {
        failure(&provider, ProviderErrorKind::NotFound).await;
        failure(
            &FileProvider::builder("/nothing/x", FileFormat::Json)
                .with_poll_interval(poll)
                .build()
                .unwrap(),
            ProviderErrorKind::NotFound,
        )
        .await;
    }
}

#[tokio::test]
async fn a_broken_file_fails_the_fetch_and_a_fixed_one_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("json");
    let provider = FileProvider::json(&path).unwrap();
    fs::write(&path, r#"{"user":"u","password":"one"}"#).unwrap();
    let current = first_lease(&provider).await.unwrap();
    for broken in ["", "{", r#"{"user":"u"}"#, "\u{feff}{}"] {
        fs::write(&path, broken).unwrap();
        let error = provider
            .fetch(FetchRequest::new(RotationTrigger::Schedule).with_current(current.clone()))
            .await
            .unwrap_err();
        assert!(!error.is_transient(), "{error}");
    }
    fs::write(&path, r#"{"user":"u","password":"one"}"#).unwrap();
    assert_eq!(
        fetch_again(&provider, &current).await.unwrap().revision(),
        current.revision()
    );
}

#[tokio::test]
async fn a_fetch_waits_for_a_file_that_is_being_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("json");
    let provider = FileProvider::json(&path).unwrap();
    for incomplete in [
        "",
        r#"{"user":"u","pass"#,
        "{\"user\":\"u\",\"password\":\"on",
    ] {
        fs::write(&path, incomplete).unwrap();
        let mut fetch = std::pin::pin!(first_lease(&provider));
        // The first read finds it incomplete well before this.
        assert!(
            timeout(Duration::from_millis(30), &mut fetch)
                .await
                .is_err()
        );
        fs::write(&path, r#"{"user":"u","password":"one"}"#).unwrap();
        assert_eq!(parts(&fetch.await.unwrap()), ("u", "one"));
    }
}
