//! A file that this process may not read. Root may read every file, so as root the test runs itself
//! again as another user.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use claviger::error::ProviderErrorKind;
use claviger_file::FileProvider;
use common::failure;

/// Environment variable of the process that runs as another user: the directory of the files.
const FILES: &str = "CLAVIGER_FILE_DENIED";
const NOBODY: u32 = 65_534;

#[test]
fn an_unreadable_file_is_denied() {
    if let Some(dir) = std::env::var_os(FILES) {
        return check(&PathBuf::from(dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    mode(dir.path(), 0o755);
    fs::write(dir.path().join("file"), "CANARY").unwrap();
    mode(&dir.path().join("file"), 0o000);
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    for name in ["username", "password"] {
        fs::write(closed.join(name), "CANARY").unwrap();
    }
    mode(&closed, 0o000);
    if fs::read(dir.path().join("file")).is_err() {
        check(dir.path());
    } else {
        let copy = dir.path().join("copy");
        fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
        mode(&copy, 0o755);
        let output = Command::new(&copy)
            .args(["--exact", "an_unreadable_file_is_denied"])
            .env(FILES, dir.path())
            .current_dir(dir.path())
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && message.contains("1 passed"),
            "{message}"
        );
    }
    mode(&closed, 0o755);
}

fn check(dir: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for provider in [
            FileProvider::password(dir.join("file"), "u"),
            FileProvider::json(dir.join("file")),
            FileProvider::url(dir.join("closed/password")),
            FileProvider::directory(dir.join("closed")),
        ] {
            let error = failure(&provider.unwrap(), ProviderErrorKind::Denied).await;
            assert!(
                error.contains("may not be read") && error.contains(dir.to_str().unwrap()),
                "{error}"
            );
        }
    });
}
