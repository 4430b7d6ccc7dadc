//! needs: postgresql
//!
//! Law 10: sessions during a handover ≤ maximum + overlap, also with the maximum number of transactions held open across it.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use claviger::{Handle, Sessions};
use claviger_stage::{Callers, Stage, eventually};
use claviger_testkit::ScriptedProvider;
use sqlx::PgPool;
use tokio::task::JoinHandle;

/// Counts the role's sessions on the server, as often as it can.
struct Peak {
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Peak {
    async fn watch(stage: &Stage) -> Self {
        let (stop, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        stage.sql("CREATE ROLE watcher LOGIN SUPERUSER PASSWORD 'watcher'").await;
        let options = stage.connect_options().username("watcher").password("watcher");
        let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect_with(options).await.expect("it connects");
        let task = tokio::spawn({
            let (stop, peak) = (Arc::clone(&stop), Arc::clone(&peak));
            async move {
                while !stop.load(Ordering::Acquire) {
                    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'")
                        .fetch_one(&pool)
                        .await
                        .expect("it counts");
                    peak.fetch_max(count, Ordering::AcqRel);
                }
            }
        });
        Self { stop, peak, task }
    }

    async fn stop(self) -> i64 {
        self.stop.store(true, Ordering::Release);
        self.task.await.expect("no panic");
        self.peak.load(Ordering::Acquire)
    }
}

async fn peak_over_rotations(stage: &Stage, db: &Handle<PgPool>, rotations: u64) -> i64 {
    let peak = Peak::watch(stage).await;
    let callers = Callers::start(db, 16);
    for _ in 0..rotations {
        let before = db.generation();
        callers.answer_more(200).await;
        stage.rotate_announced().await;
        eventually("the next generation is served", || db.generation() > before).await;
    }
    callers.answer_more(200).await;
    assert_eq!(callers.stop().await.failed, Vec::<String>::new());
    peak.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_replacing_under_load() {
    let stage = Stage::new().await;
    let login = stage.login().await;
    let pools = claviger::PgPools::new(stage.connect_options(), stage.pool_options(10).min_connections(10));
    let db = stage.supervisor.pool("orders", &login, pools).await.expect("proved");
    let peak = peak_over_rotations(&stage, &db, 6).await;
    assert!((10..=12).contains(&peak), "{peak} sessions with a maximum of 10 and an overlap of 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_in_place_under_load() {
    let stage = Stage::with(ScriptedProvider::new().sessions(Sessions::Keep)).await;
    let db = stage.pool(10).await;
    let peak = peak_over_rotations(&stage, &db, 4).await;
    assert!((10..=11).contains(&peak), "{peak} sessions with a maximum of 10 and the proof");
}

#[tokio::test(flavor = "multi_thread")]
async fn law_10_with_every_session_held_across_a_replacement() {
    let stage = Stage::new().await;
    let db = stage.pool(10).await;
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(db.begin().await.expect("a transaction"));
    }
    let peak = Peak::watch(&stage).await;
    stage.rotate_announced().await;
    eventually("the next generation is served", || db.generation() == 2).await;
    // Ten old sessions are busy: the callers share the overlap.
    let callers = Callers::start(&db, 16);
    callers.answer_more(300).await;
    let now = db.status().expect("supervised");
    assert_eq!(now.draining[0].sessions, 10, "the hazard: all old sessions are held");
    assert!(now.sessions <= 2, "{} new sessions", now.sessions);
    // As they return, new ones are opened.
    for transaction in held {
        transaction.commit().await.expect("it commits");
        callers.answer_more(20).await;
    }
    eventually("the old generation has drained", || db.status().is_some_and(|status| status.draining.is_empty())).await;
    callers.answer_more(300).await;
    assert_eq!(callers.stop().await.failed, Vec::<String>::new());
    let peak = peak.stop().await;
    assert!((11..=12).contains(&peak), "{peak} sessions with a maximum of 10 and an overlap of 2");
}
