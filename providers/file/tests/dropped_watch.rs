//! A dropped watch stops its thread. The test is a process of its own because it counts the
//! process's threads.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::time::Duration;

use claviger_file::FileProvider;
use common::{BOUND, Watched, inotify_instances};

/// Returns the numbers of threads and of inotify instances of all watches.
fn threads_and_instances() -> (usize, usize) {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let threads = threads.filter(|task| {
        fs::read_to_string(task.path().join("comm"))
            .is_ok_and(|name| name.starts_with("claviger-file"))
    });
    (threads.count(), inotify_instances())
}

#[tokio::test]
async fn a_dropped_watch_stops_its_thread() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    fs::write(&path, "s3cret").unwrap();
    let mut watches = Vec::new();
    for _ in 0..10 {
        watches.push(Watched::start(FileProvider::password(&path, "orders").unwrap()).await);
    }
    assert_eq!(
        threads_and_instances(),
        (1, 1),
        "the hazard: both are counted"
    );
    for watched in watches {
        watched.stop().await;
    }
    tokio::time::timeout(BOUND, async {
        while threads_and_instances() != (0, 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}
