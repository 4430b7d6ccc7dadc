//! needs: postgresql
//!
//! Law 11: one revision that the database refuses costs at most `max_connections + 3` bad log-ins per cool-down.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "laws/law_11.rs"]
mod on_postgresql;

use std::time::Duration;

use claviger::{Fault, FaultKind};
use claviger_stage::Stage;
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use sqlx::PgPool as Pool;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn law_11_over_an_hour_the_served_revision_is_proved_once_a_minute() {
    let lab = Lab::new();
    let (store, database) = (ScriptedProvider::new(), ScriptedPools::new(4));
    let login = lab.supervisor.provide("login", store.clone()).await.expect("it starts");
    let pool = lab.supervisor.pool("pool", &login, database.clone()).await.expect("it is proved");
    database.accept_only(["something else"]);
    let began = Instant::now();
    assert!(pool.refused(1, &Fault::new(FaultKind::Refused, "password authentication failed")));
    let mut seen = Vec::new();
    while began.elapsed() < Duration::from_secs(3_600) {
        sleep(Duration::from_millis(500)).await;
        if database.refused() > seen.len() {
            seen.push(began.elapsed().as_secs());
        }
    }
    assert_eq!(seen[..5], [1, 3, 10, 30, 90]);
    assert!((60..=66).contains(&seen.len()), "{} proofs in an hour", seen.len());
    assert!(seen[3..].windows(2).all(|pair| pair[1] - pair[0] <= 62), "{seen:?}");
    // What works again is served again within that minute.
    database.accept_only(["password-1"]);
    sleep(Duration::from_secs(61)).await;
    assert!(pool.status().expect("supervised").serving);
}
