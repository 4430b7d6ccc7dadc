//! Every way in which files can be wrong, and the error that each returns.

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

/// Checks the error for a file with this content, in each format that is one file.
async fn each_of_one_file(content: &[u8], kind: ProviderErrorKind, expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("login");
    fs::write(&path, content).unwrap();
    for provider in [
        FileProvider::json(&path),
        FileProvider::url(&path),
        FileProvider::password(&path, "orders"),
    ] {
        let problem = failure(&provider.unwrap(), kind).await;
        assert!(
            problem.contains(expected) && problem.contains(path.to_str().unwrap()),
            "{problem}"
        );
        assert!(!problem.contains(CANARY), "{problem}");
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
        let problem = failure(&provider.unwrap(), ProviderErrorKind::NotFound).await;
        assert!(
            problem.contains("does not exist") && problem.contains(path.to_str().unwrap()),
            "{problem}"
        );
    }
    fs::write(dir.path().join("username"), "orders").unwrap();
    let problem = failure(
        &FileProvider::directory(dir.path()).unwrap(),
        ProviderErrorKind::NotFound,
    )
    .await;
    assert!(problem.contains("/password: does not exist"), "{problem}");
}

#[tokio::test]
async fn a_link_to_nothing_is_not_found() {
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
async fn a_directory_is_no_file_and_a_file_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let problem = failure(
        &FileProvider::json(dir.path()).unwrap(),
        ProviderErrorKind::Misconfigured,
    )
    .await;
    assert!(
        problem.contains("is a directory") && problem.contains("FileProvider::directory"),
        "{problem}"
    );

    let path = dir.path().join("file");
    fs::write(&path, CANARY).unwrap();
    let problem = failure(
        &FileProvider::directory(&path).unwrap(),
        ProviderErrorKind::Misconfigured,
    )
    .await;
    assert!(
        problem.contains("is a file; set its directory") && !problem.contains(CANARY),
        "{problem}"
    );
    failure(
        &FileProvider::json(path.join("below")).unwrap(),
        ProviderErrorKind::Misconfigured,
    )
    .await;
}

#[tokio::test]
async fn an_empty_file_is_malformed() {
    each_of_one_file(b"", ProviderErrorKind::Malformed, "is empty").await;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("password"), "\n").unwrap();
    let problem = failure(
        &FileProvider::password(dir.path().join("password"), "u").unwrap(),
        ProviderErrorKind::Malformed,
    )
    .await;
    assert!(problem.contains("is empty"), "{problem}");
    fs::write(dir.path().join("username"), "").unwrap();
    let problem = failure(
        &FileProvider::directory(dir.path()).unwrap(),
        ProviderErrorKind::Malformed,
    )
    .await;
    assert!(problem.contains("/username: is empty"), "{problem}");
}

#[tokio::test]
async fn invalid_utf_8_is_malformed_at_its_byte() {
    each_of_one_file(
        b"CANARY\xffCANARY",
        ProviderErrorKind::Malformed,
        "not UTF-8 at byte 6",
    )
    .await;
}

#[tokio::test]
async fn a_file_over_the_limit_is_malformed() {
    each_of_one_file(
        CANARY.repeat(12_000).as_bytes(),
        ProviderErrorKind::Malformed,
        "longer than 64 KiB",
    )
    .await;
}

#[tokio::test]
async fn a_file_without_an_end_is_never_read_beyond_the_limit() {
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
        let problem = failure(&provider.unwrap(), ProviderErrorKind::Malformed).await;
        assert!(problem.contains("NUL"), "{problem}");
    }
}

#[tokio::test]
async fn json_that_is_wrong_is_malformed_at_its_place() {
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
        let problem = failure(&provider, ProviderErrorKind::Malformed).await;
        assert!(
            problem.contains(expected) && !problem.contains(CANARY),
            "{problem}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_be_right_ends_a_registration_at_once() {
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
fn a_pipe_or_device_does_not_hang_it() {
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
            let problem = failure(
                &FileProvider::password(path, "u").unwrap(),
                ProviderErrorKind::Misconfigured,
            )
            .await;
            assert!(problem.contains("pipe, socket or device"), "{problem}");
        }
    };
    let fetched = runtime.block_on(async { timeout(BOUND, fetching).await });
    // Does not wait for a thread that hangs.
    runtime.shutdown_background();
    assert!(fetched.is_ok());
}

#[tokio::test]
async fn invalid_arguments_fail_at_construction() {
    for (made, names) in [
        (FileProvider::json(""), "\"path\""),
        (FileProvider::directory("/run/\0"), "\"path\""),
        (FileProvider::password("/run/password", ""), "\"user\""),
        (FileProvider::password("/run/password", "a\0b"), "\"user\""),
    ] {
        let error = made.unwrap_err();
        assert_eq!(error.kind(), ProviderErrorKind::Misconfigured);
        assert!(error.to_string().contains(names), "{error}");
    }
}

#[tokio::test]
async fn an_invalid_setting_fails_at_construction() {
    let day = Duration::from_secs(24 * 3_600);
    for (built, names) in [
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
        let error = built.unwrap_err();
        assert_eq!(error.kind(), ProviderErrorKind::Misconfigured);
        assert!(error.to_string().starts_with(names), "{error}");
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
async fn a_file_that_is_being_written_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("json");
    let provider = FileProvider::json(&path).unwrap();
    for begun in [
        "",
        r#"{"user":"u","pass"#,
        "{\"user\":\"u\",\"password\":\"on",
    ] {
        fs::write(&path, begun).unwrap();
        let mut fetch = std::pin::pin!(first_lease(&provider));
        // The first read has found it incomplete well before this.
        assert!(
            timeout(Duration::from_millis(30), &mut fetch)
                .await
                .is_err()
        );
        fs::write(&path, r#"{"user":"u","password":"one"}"#).unwrap();
        assert_eq!(parts(&fetch.await.unwrap()), ("u", "one"));
    }
}
