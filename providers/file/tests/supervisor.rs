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
use common::{BOUND, file_in_directory, replace};
use tokio::time::timeout;

fn json(password: &str) -> String {
    format!(r#"{{"username":"orders","password":"{password}"}}"#)
}

/// Starts a supervisor with this provider as `login`. Returns it with its events from the start.
async fn supervise(provider: FileProvider) -> (Supervisor, Events) {
    let supervisor = Supervisor::start();
    let events = supervisor.events();
    supervisor.add_provider("login", provider).await.unwrap();
    (supervisor, events)
}

/// Waits until another lease was adopted.
async fn next_adopted(events: &mut Events) -> RotationReport {
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
    .expect("a lease is adopted")
}

/// Waits until a fetch has failed; no other lease may be adopted before.
async fn next_failure(events: &mut Events) -> ProviderError {
    timeout(BOUND, async {
        loop {
            match events.next().await.unwrap() {
                Event::FetchFailed { error, .. } => return error,
                Event::Rotated(report) => assert_ne!(
                    report.outcome,
                    RotationOutcome::Adopted,
                    "a broken file became a lease"
                ),
                _ => {}
            }
        }
    })
    .await
    .expect("a fetch fails")
}

fn status(supervisor: &Supervisor) -> ProviderStatus {
    supervisor.status().providers.remove(0)
}

#[tokio::test]
async fn a_rewritten_file_is_a_rotation() {
    let (_dir, path) = file_in_directory("login.json", &json("one"));
    let (supervisor, mut events) = supervise(FileProvider::json(&path).unwrap()).await;
    let first = next_adopted(&mut events).await;
    assert_eq!(
        (first.trigger, &first.revision),
        (RotationTrigger::Start, &status(&supervisor).revision)
    );

    replace(&path, &json("two"));
    let second = next_adopted(&mut events).await;
    assert_eq!(
        (second.trigger, &second.revision),
        (RotationTrigger::Changed, &status(&supervisor).revision)
    );
    assert!(second.revision.is_some());
    assert_ne!(first.revision, second.revision);
    supervisor.shutdown(BOUND).await;
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_file_is_fetched_once_and_a_change_costs_one_fetch() {
    let (_dir, path) = file_in_directory("login.json", &json("one"));
    let provider = FileProvider::builder(&path, FileFormat::Json)
        .with_poll_interval(Duration::from_secs(3_600))
        .build()
        .unwrap();
    let (supervisor, mut events) = supervise(provider).await;
    next_adopted(&mut events).await;
    // Time advances only while no file is being read or registered for watching.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(status(&supervisor).fetches, 1);

    replace(&path, &json("two"));
    tokio::time::resume();
    assert_eq!(
        next_adopted(&mut events).await.trigger,
        RotationTrigger::Changed
    );
    assert_eq!(status(&supervisor).fetches, 2);
    supervisor.shutdown(BOUND).await;
}

#[tokio::test]
async fn a_broken_file_keeps_the_current_lease_and_a_fixed_one_replaces_it() {
    let (_dir, path) = file_in_directory("login.json", &json("one"));
    let (supervisor, mut events) = supervise(FileProvider::json(&path).unwrap()).await;
    let current = next_adopted(&mut events).await.revision;

    fs::write(&path, "").unwrap();
    let error = next_failure(&mut events).await;
    assert_eq!(error.kind(), ProviderErrorKind::Malformed);
    let broken = status(&supervisor);
    assert_eq!(broken.revision, current);
    assert_eq!(broken.last_error.unwrap().to_string(), error.to_string());

    replace(&path, &json("two"));
    let fixed = next_adopted(&mut events).await;
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
        .expect("before the start deadline")
        .unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");

    let mut events = supervisor.events();
    supervisor
        .add_provider_in_background("login", FileProvider::json(&path).unwrap())
        .unwrap();
    assert_eq!(
        next_failure(&mut events).await.kind(),
        ProviderErrorKind::NotFound
    );
    replace(&path, &json("one"));
    next_adopted(&mut events).await;
    supervisor.shutdown(BOUND).await;
}
