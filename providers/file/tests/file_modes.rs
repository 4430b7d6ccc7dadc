//! A file that other users may read is used, and logged once.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger::Supervisor;
use claviger_file::FileProvider;
use common::{BOUND, Captured, first_lease};
use tracing::subscriber::DefaultGuard;

fn write_with_mode(path: &Path, content: &str, mode: u32) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Captures what this thread logs at WARN and above.
fn capture_warnings() -> (Captured, DefaultGuard) {
    let log = Captured::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone());
    (log, tracing::subscriber::set_default(subscriber.finish()))
}

/// Returns the lines about permissions.
fn permission_lines(log: &Captured) -> Vec<String> {
    log.take()
        .lines()
        .filter(|line| line.contains("readable by other users"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn a_file_that_others_may_read_is_logged_once_with_its_path_and_mode() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (log, _guard) = capture_warnings();
    write_with_mode(&path("json"), r#"{"user":"u","password":"CANARY"}"#, 0o644);
    write_with_mode(&path("url"), "postgres://u:CANARY@h/d", 0o640);
    write_with_mode(&path("password"), "CANARY", 0o604);
    write_with_mode(&path("username"), "u", 0o600);
    let providers: [(FileProvider, PathBuf, &str); 4] = [
        (
            FileProvider::json(path("json")).unwrap(),
            path("json"),
            "0644",
        ),
        (FileProvider::url(path("url")).unwrap(), path("url"), "0640"),
        (
            FileProvider::password(path("password"), "u").unwrap(),
            path("password"),
            "0604",
        ),
        (
            FileProvider::directory(dir.path()).unwrap(),
            path("password"),
            "0604",
        ),
    ];
    for (provider, path, mode) in providers {
        for _ in 0..3 {
            first_lease(&provider).await.unwrap();
        }
        let lines = permission_lines(&log);
        assert_eq!(lines.len(), 1, "{lines:?}");
        for part in [
            path.to_str().unwrap(),
            mode,
            "WARN",
            "chmod 0600",
            "defaultMode: 0400",
        ] {
            assert!(lines[0].contains(part), "{part}: {lines:?}");
        }
    }
}

#[tokio::test]
async fn a_file_that_only_its_owner_may_read_is_not_logged() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _guard) = capture_warnings();
    // A user name is no secret.
    write_with_mode(&dir.path().join("username"), "u", 0o644);
    for mode in [0o400, 0o600] {
        write_with_mode(&dir.path().join("password"), "CANARY", mode);
        first_lease(&FileProvider::directory(dir.path()).unwrap())
            .await
            .unwrap();
        first_lease(&FileProvider::password(dir.path().join("password"), "u").unwrap())
            .await
            .unwrap();
    }
    assert_eq!(permission_lines(&log), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_mounted_secret_that_is_polled_and_replaced_is_logged_once() {
    let dir = tempfile::tempdir().unwrap();
    let version = |number: u32| {
        let name = format!("..version_{number}");
        fs::create_dir(dir.path().join(&name)).unwrap();
        for (file, content) in [
            ("username", "u".to_owned()),
            ("password", format!("CANARY-{number}")),
        ] {
            write_with_mode(&dir.path().join(&name).join(file), &content, 0o644);
        }
        symlink(&name, dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    };
    version(0);
    for name in ["username", "password"] {
        symlink(Path::new("..data").join(name), dir.path().join(name)).unwrap();
    }
    let (log, _guard) = capture_warnings();
    let supervisor = Supervisor::start();
    supervisor
        .add_provider("login", FileProvider::directory(dir.path()).unwrap())
        .await
        .unwrap();
    let fetches = || supervisor.status().providers.remove(0).fetches;
    for number in 1..=3 {
        let before = fetches();
        version(number);
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert!(fetches() >= before + 5, "the file is polled");
    }
    let lines = permission_lines(&log);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let path = dir.path().join("password");
    assert!(
        lines[0].contains(path.to_str().unwrap()),
        "the path as it is mounted: {lines:?}"
    );
    supervisor.shutdown(BOUND).await;
}
