//! The most sessions at once, with every session held across a replacement.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use claviger_stage::{Callers, Stage, eventually};

use crate::figure::Figures;

pub(crate) async fn measure(figures: &mut Figures) {
    let stage = Stage::new().await;
    let db = stage.pool(10).await;
    stage.sql("CREATE ROLE watcher LOGIN SUPERUSER PASSWORD 'watcher'").await;
    let options = stage.connect_options().username("watcher").password("watcher");
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect_with(options).await.expect("it connects");
    let (stop, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
    let watch = tokio::spawn({
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
    for _ in 0..10 {
        let before = db.generation();
        let mut held = Vec::new();
        for _ in 0..10 {
            held.push(db.begin().await.expect("a transaction"));
        }
        let callers = Callers::start(&db, 16);
        stage.rotate_announced().await;
        eventually("the next generation is served", || db.generation() > before).await;
        callers.answer_more(100).await;
        for transaction in held {
            transaction.commit().await.expect("it commits");
        }
        callers.answer_more(100).await;
        assert!(callers.stop().await.failed.is_empty());
        eventually("it has drained", || db.status().is_some_and(|status| status.draining.is_empty())).await;
    }
    stop.store(true, Ordering::Release);
    watch.await.expect("no panic");
    figures.at_most("peak sessions, 10 held across each of 10 replacements (10 + overlap of 2)", peak.load(Ordering::Acquire) as f64, 12.0);
}
