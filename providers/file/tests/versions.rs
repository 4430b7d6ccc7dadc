//! A secret as the kubelet writes it: each version in a directory of its own, and a link to the
//! current one.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use claviger_file::{FileFormat, FileProvider};
use common::{BOUND, Watched, first_lease, parts};
use tokio::time::timeout;

/// A mounted secret, whose link is replaced as by the kubelet's atomic writer.
struct Mount {
    dir: PathBuf,
    versions: u64,
}

impl Mount {
    fn new(dir: &Path) -> Self {
        let mut mount = Self {
            dir: dir.to_owned(),
            versions: 0,
        };
        mount.write_next_version();
        for name in ["username", "password", "login.json"] {
            symlink(Path::new("..data").join(name), dir.join(name)).unwrap();
        }
        mount
    }

    /// Writes the next version, moves the link to it and removes the previous one.
    fn write_next_version(&mut self) {
        let before = fs::read_link(self.dir.join("..data")).ok();
        self.versions += 1;
        let version = self.versions;
        let name = format!("..2026_11_22_{version}");
        fs::create_dir(self.dir.join(&name)).unwrap();
        let file = |file: &str, content: String| {
            fs::write(self.dir.join(&name).join(file), content).unwrap()
        };
        file("username", format!("user-v{version}"));
        file("password", format!("password-v{version}\n"));
        file(
            "login.json",
            format!(r#"{{"username":"user-v{version}","password":"password-v{version}"}}"#),
        );
        symlink(&name, self.dir.join("..data_tmp")).unwrap();
        fs::rename(self.dir.join("..data_tmp"), self.dir.join("..data")).unwrap();
        if let Some(before) = before {
            fs::remove_dir_all(self.dir.join(before)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_moved_link_is_noticed_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let mut mount = Mount::new(dir.path());
    let rare_polls = Duration::from_secs(3_600);
    let builders = || {
        [
            FileProvider::builder(dir.path(), FileFormat::Directory),
            FileProvider::builder(dir.path().join("login.json"), FileFormat::Json),
            FileProvider::builder(dir.path().join("password"), FileFormat::password("user-v2")),
        ]
    };
    for (provider, watched) in builders().into_iter().zip(builders()) {
        let provider = provider.build().unwrap();
        let mut watched =
            Watched::start(watched.with_poll_interval(rare_polls).build().unwrap()).await;
        for _ in 0..3 {
            mount.write_next_version();
            let password = format!("password-v{}", mount.versions);
            watched
                .until(&provider, |lease| parts(lease).1 == password)
                .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_never_paired_with_another_versions_password() {
    let dir = tempfile::tempdir().unwrap();
    let mut mount = Mount::new(dir.path());
    let provider = FileProvider::directory(dir.path()).unwrap();
    let (stop, written) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(1)),
    );
    let kubelet = std::thread::spawn({
        let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
        move || {
            while !stop.load(Ordering::Relaxed) {
                mount.write_next_version();
                written.store(mount.versions, Ordering::Relaxed);
            }
        }
    });
    let mut versions = BTreeSet::new();
    let mut reads_during_swaps = 0;
    let reading = timeout(BOUND, async {
        while versions.len() < 200 {
            let before = written.load(Ordering::Relaxed);
            let lease = first_lease(&provider).await.unwrap();
            reads_during_swaps += u32::from(written.load(Ordering::Relaxed) > before);
            let (user, password) = parts(&lease);
            let version = user.strip_prefix("user-v").unwrap().to_owned();
            assert_eq!(password.strip_prefix("password-v").unwrap(), version);
            versions.insert(version);
        }
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    kubelet.join().unwrap();
    assert!(
        reading.is_ok(),
        "only {} versions were read",
        versions.len()
    );
    assert!(
        reads_during_swaps > 50,
        "only {reads_during_swaps} reads during swaps"
    );
}

#[tokio::test]
async fn a_link_to_the_directory_itself_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    for version in ["v1", "v2"] {
        fs::create_dir(dir.path().join(version)).unwrap();
        fs::write(
            dir.path().join(version).join("username"),
            format!("user-{version}"),
        )
        .unwrap();
        fs::write(
            dir.path().join(version).join("password"),
            format!("password-{version}"),
        )
        .unwrap();
    }
    let current = dir.path().join("current");
    symlink("v1", &current).unwrap();
    let provider = FileProvider::directory(&current).unwrap();
    assert_eq!(
        parts(&first_lease(&provider).await.unwrap()),
        ("user-v1", "password-v1")
    );
    let mut watched = Watched::start(
        FileProvider::builder(&current, FileFormat::Directory)
            .with_poll_interval(Duration::from_secs(3_600))
            .build()
            .unwrap(),
    )
    .await;
    symlink("v2", dir.path().join("next")).unwrap();
    fs::rename(dir.path().join("next"), &current).unwrap();
    watched
        .until(&provider, |lease| {
            parts(lease) == ("user-v2", "password-v2")
        })
        .await;
}
