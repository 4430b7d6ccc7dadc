//! An unchanged file is not logged. The test is a process of its own because it captures the log of
//! every thread.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;
use std::time::Duration;

use claviger::Supervisor;
use claviger::status::ProviderStatus;
use claviger_file::{FileFormat, FileProvider};
use common::{BOUND, Captured};
use tokio::time::timeout;

fn status(supervisor: &Supervisor) -> ProviderStatus {
    supervisor.status().providers.remove(0)
}

#[tokio::test]
async fn an_unchanged_file_is_polled_and_nothing_is_logged_above_debug() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("login.json");
    fs::write(&path, r#"{"username":"orders","password":"one"}"#).unwrap();
    let log = Captured::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_env_filter("info,ractor=off")
        .with_writer(move || writer.clone())
        .init();

    let supervisor = Supervisor::start();
    let provider = FileProvider::builder(&path, FileFormat::Json)
        .with_poll_interval(Duration::from_secs(1))
        .build()
        .unwrap();
    supervisor.add_provider("login", provider).await.unwrap();
    let first = log.take();
    assert!(
        first.contains("first lease obtained"),
        "the start is logged: {first}"
    );

    let current = status(&supervisor);
    timeout(BOUND, async {
        while status(&supervisor).fetches < current.fetches + 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the file is polled");
    assert_eq!(status(&supervisor).revision, current.revision);
    assert_eq!(log.take(), "", "nothing is logged");
    supervisor.shutdown(BOUND).await;
}
