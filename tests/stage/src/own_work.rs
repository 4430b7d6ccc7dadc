//! What a rotation costs where nothing else takes time.

use std::time::Duration;

use claviger::Supervisor;
use claviger_testkit::{ScriptedPools, ScriptedProvider};

const TURNS: u32 = 20;

/// Microseconds of each of 20 rotations, with a store and a database that answer at once: what is left is the library's own work. The supervisor is shut
/// down at the end.
pub async fn own_work(supervisor: &Supervisor) -> Vec<f64> {
    let store = ScriptedProvider::new();
    let login = supervisor.add_provider("login", store.clone()).await.expect("a lease");
    let _pool = supervisor.add_pool("orders", &login, ScriptedPools::new(10)).await.expect("verified");
    let mut took = Vec::new();
    for _ in 0..TURNS {
        // Requests are answered once a second; the report's time begins with the fetch.
        tokio::time::sleep(Duration::from_secs(1)).await;
        store.rotate();
        let report = supervisor.rotate_now("login").await.expect("it rotates");
        took.push(report.took.as_secs_f64() * 1e6);
    }
    supervisor.shutdown(Duration::from_secs(5)).await;
    took
}
