//! needs: postgresql
//!
//! Log lines of a service that uses the `log` crate and has no tracing subscriber. Each rotation is
//! one line at INFO, and no span is a line. No line at any level contains a secret.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use claviger_file::FileProvider;
use claviger_fixtures::{Fixture, Level, LogLine, LogRecorder, eventually};

/// A secret as the kubelet mounts it.
struct Mount {
    dir: tempfile::TempDir,
    versions: u32,
}

impl Mount {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["username", "password"] {
            symlink(Path::new("..data").join(name), dir.path().join(name)).unwrap();
        }
        Self { dir, versions: 0 }
    }

    /// Writes another version, moves the link to it and removes the previous one.
    fn write(&mut self, password: &str) {
        let dir = self.dir.path();
        self.versions += 1;
        let before = fs::read_link(dir.join("..data")).ok();
        let version = format!("..version_{}", self.versions);
        fs::create_dir(dir.join(&version)).unwrap();
        for (name, content) in [("username", "app"), ("password", password)] {
            let path = dir.join(&version).join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o400)).unwrap();
        }
        symlink(&version, dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
        if let Some(before) = before {
            fs::remove_dir_all(dir.join(before)).unwrap();
        }
    }
}

fn at_info_and_above(lines: &[LogLine]) -> Vec<&LogLine> {
    lines
        .iter()
        .filter(|line| line.level <= Level::Info)
        .collect()
}

/// Returns whether a line logs the start, entry, exit or end of a span.
fn is_span_line(line: &LogLine) -> bool {
    line.target.starts_with("tracing::span")
        || ["++ ", "-> ", "<- ", "-- "]
            .iter()
            .any(|mark| line.text.starts_with(mark))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_rotation_is_one_line_at_info_and_no_line_is_a_span_or_shows_a_secret() {
    let log = LogRecorder::everything();
    let fixture = Fixture::new().await;
    let mut mount = Mount::new();
    let mut passwords = vec!["CANARY-password-1".to_owned()];
    fixture.set_password(&passwords[0]).await;
    mount.write(&passwords[0]);
    let credentials = fixture
        .supervisor
        .add_provider("login", FileProvider::directory(mount.dir.path()).unwrap())
        .await
        .unwrap();
    let pool = fixture
        .supervisor
        .add_pool("orders", &credentials, fixture.pools(4))
        .await
        .unwrap();
    let is_rotated = |line: &&LogLine| line.text.starts_with("rotated");
    let rotations = || log.lines().iter().filter(is_rotated).count();

    for number in 2..=4 {
        let before = log.lines().len();
        let (rotated, generation) = (rotations(), pool.generation());
        let password = format!("CANARY-password-{number}");
        fixture.set_password(&password).await;
        mount.write(&password);
        passwords.push(password);
        eventually("the rotation is logged", || rotations() > rotated).await;
        assert!(
            pool.generation() > generation,
            "the hazard: the pool was handed over"
        );
        sqlx::query("SELECT 1").execute(&pool).await.unwrap();
        let lines = log.lines();
        let lines = &lines[before..];
        assert_eq!(
            at_info_and_above(lines).len(),
            1,
            "{:#?}",
            at_info_and_above(lines)
        );
        let spans: Vec<_> = lines.iter().filter(|line| is_span_line(line)).collect();
        assert!(spans.is_empty(), "{spans:#?}");
    }
    fixture.supervisor.shutdown(Duration::from_secs(10)).await;

    log.assert_not_silenced();
    assert!(
        log.lines()
            .iter()
            .any(|line| line.target.starts_with("claviger_file")),
        "the hazard: the provider logs"
    );
    // ractor's own lines, at TRACE, when an actor starts and ends.
    let is_actor_line = |line: &LogLine| line.level == Level::Trace && line.text == "-- Actor;";
    let spans: Vec<_> = log
        .lines()
        .into_iter()
        .filter(|line| is_span_line(line) && !is_actor_line(line))
        .collect();
    assert!(spans.is_empty(), "{spans:#?}");
    let secrets: Vec<_> = passwords.iter().map(String::as_str).collect();
    let shown = log.lines_containing(&secrets);
    assert!(shown.is_empty(), "{shown:#?}");
}
