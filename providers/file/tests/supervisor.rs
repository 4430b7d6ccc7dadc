//! The provider under the real supervisor: a file is rewritten, broken and fixed.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::fs;
use std::time::Duration;

use claviger::Supervisor;
use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::events::{Event, Events};
use claviger::report::{RotationOutcome, RotationReport, RotationTrigger};
use claviger::status::ProviderStatus;
use claviger_file::{FileFormat, FileProvider};
use common::{BOUND, replace};
use tokio::time::timeout;

fn json(password: &str) -> String {
    format!(r#"{{"username":"orders","password":"{password}"}}"#)
}

/// Waits until another lease was adopted.
async fn adopted(events: &mut Events) -> RotationReport {
    timeout(BOUND, async {
        loop {
            match events.next().await.unwrap() {
                Event::Rotated(report) if report.outcome == RotationOutcome::Adopted => {
                    return report;
                }
                _ => {}
            }
        }
    })
    .await
    .expect("no rotation came")
}

/// Waits until a fetch has failed; no other lease may be adopted before.
async fn failed(events: &mut Events) -> ProviderError {
    timeout(BOUND, async {
        loop {
            match events.next().await.unwrap() {
                Event::FetchFailed { error, .. } => return error,
                Event::Rotated(report) => assert_ne!(
                    report.outcome,
                    RotationOutcome::Adopted,
                    "a broken file gave a lease"
                ),
                _ => {}
            }
        }
    })
    .await
    .expect("no failure came")
}

fn status(supervisor: &Supervisor) -> ProviderStatus {
    supervisor.status().providers.remove(0)
}

#[tokio::test]
async fn a_rewritten_file_is_a_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("login.json");
    fs::write(&path, json("one")).unwrap();
    let supervisor = Supervisor::start();
    let mut events = supervisor.events();
    supervisor
        .add_provider("login", FileProvider::json(&path).unwrap())
        .await
        .unwrap();
    let first = adopted(&mut events).await;
    assert_eq!(
        (first.trigger, &first.revision),
        (RotationTrigger::Start, &status(&supervisor).revision)
    );

    replace(&path, &json("two"));
    let second = adopted(&mut events).await;
    assert_eq!(
        (second.trigger, &second.revision),
        (RotationTrigger::Changed, &status(&supervisor).revision)
    );
    assert!(second.revision.is_some());
    assert_ne!(first.revision, second.revision);
    supervisor.shutdown(BOUND).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_on_an_unchanged_file_is_one_fetch_and_a_change_one_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("login.json");
    fs::write(&path, json("one")).unwrap();
    let supervisor = Supervisor::start();
    let mut events = supervisor.events();
    supervisor
        .add_provider(
            "login",
            FileProvider::builder(&path, FileFormat::Json)
                .with_poll_interval(Duration::from_secs(3_600))
                .build()
                .unwrap(),
        )
        .await
        .unwrap();
    adopted(&mut events).await;
    // Time advances only while no file is being read or registered for watching.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(status(&supervisor).fetches, 1);

    replace(&path, &json("two"));
    tokio::time::resume();
    assert_eq!(adopted(&mut events).await.trigger, RotationTrigger::Changed);
    assert_eq!(status(&supervisor).fetches, 2);
    supervisor.shutdown(BOUND).await;
}

#[tokio::test]
async fn a_broken_file_keeps_the_current_lease_and_a_fixed_one_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("login.json");
    fs::write(&path, json("one")).unwrap();
    let supervisor = Supervisor::start();
    let mut events = supervisor.events();
    supervisor
        .add_provider("login", FileProvider::json(&path).unwrap())
        .await
        .unwrap();
    let current = adopted(&mut events).await.revision;

    fs::write(&path, "").unwrap();
    let error = failed(&mut events).await;
    assert_eq!(error.kind(), ProviderErrorKind::Malformed);
    let broken = status(&supervisor);
    assert_eq!(broken.revision, current);
    assert_eq!(broken.last_error.unwrap().to_string(), error.to_string());

    replace(&path, &json("two"));
    let fixed = adopted(&mut events).await;
    assert_ne!(fixed.revision, current);
    assert!(status(&supervisor).last_error.is_none());
    supervisor.shutdown(BOUND).await;
}

#[tokio::test]
async fn a_missing_file_fails_a_registration_at_once_or_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("login.json");
    let supervisor = Supervisor::start();
    let registration = supervisor.add_provider("login", FileProvider::json(&path).unwrap());
    let error = timeout(Duration::from_secs(5), registration)
        .await
        .expect("not after the start deadline")
        .unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");

    let mut events = supervisor.events();
    supervisor
        .add_provider_in_background("login", FileProvider::json(&path).unwrap())
        .unwrap();
    assert_eq!(
        failed(&mut events).await.kind(),
        ProviderErrorKind::NotFound
    );
    replace(&path, &json("one"));
    adopted(&mut events).await;
    supervisor.shutdown(BOUND).await;
}
