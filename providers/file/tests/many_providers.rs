//! Two hundred providers in one process share an inotify instance. The test is a process of its own
//! because it counts the process's instances.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use claviger_file::{FileFormat, FileProvider};
use common::{Watched, inotify_instances, parts, replace};

/// More than the default limit of instances per user, 128.
const PROVIDERS: usize = 200;
/// A poll interval so long that every change is noticed by an event.
const RARE_POLLS: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_providers_share_an_inotify_instance_and_each_notices_its_own_change() {
    let dir = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for number in 0..PROVIDERS {
        // Half of the files share a directory. The others have one each.
        let place = if number % 2 == 0 {
            dir.path().join("shared")
        } else {
            dir.path().join(number.to_string())
        };
        fs::create_dir_all(&place).unwrap();
        paths.push(place.join(format!("password-{number}")));
    }
    let provider = |path: &Path| {
        FileProvider::builder(path, FileFormat::password("orders"))
            .with_poll_interval(RARE_POLLS)
            .build()
            .unwrap()
    };
    let mut watches = Vec::new();
    for path in &paths {
        fs::write(path, "one").unwrap();
        watches.push((path.as_path(), Watched::start(provider(path)).await));
    }
    assert_eq!(inotify_instances(), 1);
    let change_all_and_wait = async |watches: &mut [(&Path, Watched)], content: &str| {
        for (path, _) in watches.iter() {
            replace(path, content);
        }
        for (path, watched) in watches {
            watched
                .until(&provider(path), |lease| parts(lease).1 == content)
                .await;
        }
    };
    for content in ["two", "three"] {
        change_all_and_wait(&mut watches, content).await;
    }

    // When some watches stop, the others continue, in the shared directory too.
    for (_, watched) in watches.drain(..PROVIDERS / 2) {
        watched.stop().await;
    }
    change_all_and_wait(&mut watches, "four").await;
    assert_eq!(inotify_instances(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_starts_while_others_of_the_directory_stop_notices_every_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("neighbour");
    fs::write(&path, "one").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut others = Vec::new();
    for _ in 0..2 {
        let (stop, path) = (Arc::clone(&stop), path.clone());
        others.push(tokio::spawn(async move {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                Watched::start(FileProvider::password(&path, "orders").unwrap())
                    .await
                    .stop()
                    .await;
                rounds += 1;
            }
            rounds
        }));
    }
    for round in 0..100 {
        let path = dir.path().join("password");
        let provider = FileProvider::builder(&path, FileFormat::password("orders"))
            .with_poll_interval(RARE_POLLS)
            .build()
            .unwrap();
        let mut watched = Watched::start(provider).await;
        let content = round.to_string();
        replace(&path, &content);
        watched.next_hint().await;
        watched.stop().await;
    }
    stop.store(true, Ordering::Relaxed);
    for other in others {
        assert!(
            other.await.unwrap() > 20,
            "the hazard: other watches start and stop"
        );
    }
}
