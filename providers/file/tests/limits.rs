//! The watch when the system has no inotify instance left. The test runs as another user if it may,
//! because instances are counted per user.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use claviger_file::{FileFormat, FileProvider};
use common::{BOUND, Captured, Watched, replace};
use inotify::Inotify;
use tokio::time::timeout;
use tracing::Dispatch;
use tracing_subscriber::filter::LevelFilter;

/// Environment variable of the process that runs as another user: the directory of the files.
const FILES: &str = "CLAVIGER_FILE_LIMITS";

#[test]
fn without_an_inotify_instance_changes_are_polled_and_the_limit_is_logged_once() {
    if let Some(dir) = std::env::var_os(FILES) {
        return check(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let copy = dir.path().join("copy");
    fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    // No other process has this user id, not even another run of this test.
    let user = 1_000_000 + std::process::id();
    let output = Command::new(&copy)
        .args([
            "--exact",
            "without_an_inotify_instance_changes_are_polled_and_the_limit_is_logged_once",
        ])
        .env(FILES, dir.path())
        .current_dir(dir.path())
        .uid(user)
        .gid(user)
        .output();
    // Only root may become another user. Other users take their own instances for a short time.
    let Ok(output) = output else {
        return check(dir.path());
    };
    let message = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && message.contains("1 passed"),
        "{message}"
    );
}

/// Takes all remaining instances.
fn take_all_instances() -> Vec<Inotify> {
    let mut taken = Vec::new();
    while let Ok(instance) = Inotify::init() {
        taken.push(instance);
    }
    taken
}

fn check(dir: &Path) {
    let taken = take_all_instances();
    assert!(!taken.is_empty());
    assert!(
        File::open("/dev/null").is_ok(),
        "the limit is that of inotify, not of open files: lower fs.inotify.max_user_instances"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(watch_without(dir, taken));
}

async fn watch_without(dir: &Path, taken: Vec<Inotify>) {
    let log = Captured::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone());
    let dispatch = Dispatch::from(subscriber.finish());
    let mut watches = Vec::new();
    for name in ["one", "two"] {
        let path = dir.join(name);
        fs::write(&path, "before").unwrap();
        let provider = FileProvider::builder(&path, FileFormat::password("orders"))
            .with_poll_interval(Duration::from_secs(1))
            .build()
            .unwrap();
        watches.push((path, Watched::spawn(provider, dispatch.clone())));
    }
    let logged = async |line: &str, times: usize| {
        let is_logged = async {
            while log.text().matches(line).count() < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(BOUND, is_logged)
            .await
            .unwrap_or_else(|_| panic!("{line} is not logged:\n{}", log.text()));
    };
    logged("files not watched; they are polled", 2).await;
    for (path, watched) in &mut watches {
        replace(path, "after");
        watched.next_hint().await;
    }
    let warnings = |text: String| {
        text.lines()
            .filter(|line| line.contains(" WARN "))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let lines = warnings(log.text());
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for part in [
        "files not watched, only polled; raise the limit",
        "fs.inotify.max_user_instances",
    ] {
        assert!(lines[0].contains(part), "{part}: {lines:#?}");
    }

    drop(taken);
    // The next poll starts the watch.
    logged(" watching ", 2).await;
    assert_eq!(warnings(log.text()).len(), 1);
}
