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
    // The hazard: both are counted. A thread names itself after its start.
    until_counted((1, 1)).await;
    for watched in watches {
        watched.stop().await;
    }
    until_counted((0, 0)).await;
}

async fn until_counted(expected: (usize, usize)) {
    let counted = async {
        while threads_and_instances() != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(BOUND, counted).await;
    assert!(waited.is_ok(), "{:?}", threads_and_instances());
}
