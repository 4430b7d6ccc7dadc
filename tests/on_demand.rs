//! A rotation on demand while a new credential is being handed over.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::{Handle, Outcome, Trigger};
use claviger_testkit::{Lab, ScriptedPool, ScriptedPools, ScriptedProvider};
use tokio::time::sleep;

/// The backend has the next password, and the database does not accept it yet: it is the current
/// lease, and the pool serves the previous one.
async fn during_a_handover(lab: &Lab) -> (ScriptedProvider, ScriptedPools, Handle<ScriptedPool>, String) {
    let (store, database) = (ScriptedProvider::new(), ScriptedPools::new(10));
    let login = lab.supervisor.provide("login", store.clone()).await.expect("a lease");
    let pool = lab.supervisor.pool("orders", &login, database.clone()).await.expect("verified");
    database.accept_only(["password-1"]);
    let password = store.rotate();
    store.hint();
    sleep(Duration::from_secs(5)).await;
    let status = lab.supervisor.status();
    let provider = status.providers.first().expect("it is registered");
    assert_ne!(provider.revision, pool.status().and_then(|pool| pool.revision), "it is current, and not served");
    (store, database, pool, password)
}

#[tokio::test(start_paused = true)]
async fn it_waits_until_every_pool_serves_the_lease_that_is_being_handed_over() {
    let lab = Lab::new();
    let (_store, database, pool, password) = during_a_handover(&lab).await;
    let rotating = tokio::spawn({
        let supervisor = lab.supervisor.clone();
        async move { supervisor.rotate_now("login").await }
    });
    sleep(Duration::from_secs(2)).await;
    assert!(!rotating.is_finished(), "the pool serves the old one");
    database.accept_only([password]);
    let report = rotating.await.expect("no panic").expect("it rotates");
    assert_eq!((report.outcome, report.trigger), (Outcome::Adopted, Trigger::Changed), "the rotation had begun before the call");
    assert_eq!((report.handovers.len(), pool.generation()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn it_names_the_pools_that_did_not_adopt_it() {
    let lab = Lab::new();
    let (_store, _database, pool, _) = during_a_handover(&lab).await;
    let report = lab.supervisor.rotate_now("login").await.expect("it returns a report");
    assert_eq!(report.outcome, Outcome::Unfinished);
    assert_eq!((report.waiting.iter().map(|pool| &**pool).collect::<Vec<_>>(), pool.generation()), (vec!["orders"], 1));
}
