//! Peak number of connections when every connection is in use during a replacement.

use claviger_fixtures::{Callers, Fixture, Peak, eventually, until_drained};

use claviger_fixtures::Figures;

pub(crate) async fn measure(figures: &mut Figures) {
    let fixture = Fixture::new().await;
    let db = fixture.pool(10).await;
    let peak = Peak::watch(&fixture).await;
    for _ in 0..10 {
        let before = db.generation();
        let mut busy = Vec::new();
        for _ in 0..10 {
            busy.push(db.begin().await.expect("a transaction"));
        }
        let callers = Callers::start(&db, 16);
        fixture.rotate_announced().await;
        eventually("the next generation is current", || {
            db.generation() > before
        })
        .await;
        callers.wait_for_more(100).await;
        for transaction in busy {
            transaction.commit().await.expect("the transaction commits");
        }
        callers.wait_for_more(100).await;
        assert!(callers.stop().await.failed.is_empty());
        until_drained(&db).await;
    }
    let peak = peak.stop().await as f64;
    figures.at_most(
        "peak connections, 10 busy across each of 10 replacements (10 + overlap of 2)",
        peak,
        12.0,
    );
}
