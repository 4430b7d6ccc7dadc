//! Rotations under 16 tasks with 10 connections: failed queries and latency.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use claviger::events::Event;
use claviger::lease::OldConnections;
use claviger::{Credentials, Lease, Revision};
use claviger_fixtures::Fixture;
use tokio::time::{Instant, sleep};

use super::serving_again::verified_login;

use claviger_fixtures::{Figures, quantile};

const TASKS: usize = 16;
/// Time after publication in which queries still count as inside the rotation.
const AFTERMATH: Duration = Duration::from_millis(50);
/// Pause between two logins beside the pool.
const BETWEEN_LOGINS: Duration = Duration::from_millis(250);

pub(crate) async fn measure(figures: &mut Figures, rotations: u32) {
    for (name, connections) in [
        ("in place", OldConnections::Keep),
        ("replaced", OldConnections::Drain),
    ] {
        let fixture = Fixture::new().await;
        let lease = |number: u32| {
            Lease::new(
                Credentials::new("app", "password-1"),
                Revision::new(format!("revision-{number}")),
            )
            .with_old_connections(connections)
        };
        fixture.provider.return_next(lease(0));
        let db = fixture.pool(10).await;
        let mut events = fixture.supervisor.events();
        let stop = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (db, stop) = (db.clone(), Arc::clone(&stop));
                tokio::spawn(async move {
                    let (mut latencies, mut failed) = (Vec::new(), 0_u32);
                    while !stop.load(Ordering::Relaxed) {
                        let began = Instant::now();
                        match sqlx::query("SELECT 1").execute(&db).await {
                            Ok(_) => latencies.push((began, began.elapsed())),
                            Err(_) => failed += 1,
                        }
                    }
                    (latencies, failed)
                })
            })
            .collect();
        let mut windows = Vec::new();
        for number in 1..=rotations {
            fixture.provider.return_next(lease(number));
            fixture
                .supervisor
                .rotate_now("login")
                .await
                .expect("a report");
            while let Some(event) = events.next().await {
                if let Event::HandedOver(report) = event
                    && report.generation == u64::from(number) + 1
                {
                    let now = Instant::now();
                    windows.push((now.checked_sub(report.took).unwrap_or(now), now + AFTERMATH));
                    break;
                }
            }
        }
        let login_windows = log_in_beside(&fixture, rotations).await;
        stop.store(true, Ordering::Relaxed);
        let (mut inside, mut outside, mut failed) = (Vec::new(), Vec::new(), 0);
        let mut beside_logins = Vec::new();
        for task in tasks {
            let (latencies, errors) = task.await.expect("no panic");
            failed += errors;
            for (began, took) in latencies {
                let latencies = if overlaps(&windows, began, took) {
                    &mut inside
                } else if overlaps(&login_windows, began, took) {
                    &mut beside_logins
                } else {
                    &mut outside
                };
                latencies.push(took.as_secs_f64() * 1_000.0);
            }
        }
        figures.at_most(
            &format!(
                "{rotations} rotations {name}: failed queries of {}",
                inside.len() + beside_logins.len() + outside.len()
            ),
            f64::from(failed),
            0.0,
        );
        let (p999_inside, p999_outside) =
            (quantile(&mut inside, 0.999), quantile(&mut outside, 0.999));
        let title = format!("{rotations} rotations {name}: p99.9 inside / outside");
        if connections == OldConnections::Keep {
            figures.at_most(&title, p999_inside / p999_outside, 1.5);
        } else {
            figures.for_comparison(&title, p999_inside / p999_outside);
        }
        figures.for_comparison(
            &format!("{rotations} rotations {name}: p99.9 inside, ms"),
            p999_inside,
        );
        figures.for_comparison(
            &format!("{rotations} rotations {name}: p99.9 outside, ms"),
            p999_outside,
        );
        figures.for_comparison(
            &format!("{rotations} logins beside the pool: p99.9 inside / outside"),
            quantile(&mut beside_logins, 0.999) / p999_outside,
        );
        fixture.supervisor.shutdown(Duration::from_secs(5)).await;
    }
}

/// Logs in `times` times beside the pool, as a verification does, and returns when. A login keeps a
/// core busy for some milliseconds.
async fn log_in_beside(fixture: &Fixture, times: u32) -> Vec<(Instant, Instant)> {
    let options = fixture
        .connect_options()
        .username("app")
        .password("password-1");
    let mut windows = Vec::new();
    for _ in 0..times {
        sleep(BETWEEN_LOGINS).await;
        let began = Instant::now();
        verified_login(&options).await;
        windows.push((began, Instant::now() + AFTERMATH));
    }
    windows
}

/// Returns whether a query ran inside one of the windows, which are in order.
fn overlaps(windows: &[(Instant, Instant)], began: Instant, took: Duration) -> bool {
    let at = windows.partition_point(|(_, end)| *end < began);
    windows
        .get(at)
        .is_some_and(|(start, _)| began + took >= *start)
}
