//! Connections whose role was dropped: the engine's default revocation leaves them open, and they
//! still run `SELECT 1`.

use std::time::Duration;

use claviger_fixtures::eventually_within;
use claviger_vault_fixtures::Revocation;
use tokio::time::Instant;

use crate::service::Service;

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_a_dropped_user_is_found_by_the_probe() {
    let service = Service::start(120, 240, Revocation::Default).await;
    // The pool is full: no caller opens a connection, which would find the rejection at once.
    let mut connections = Vec::new();
    for _ in 0..8 {
        connections.push(service.db.acquire().await.expect("a connection"));
    }
    drop(connections);
    let callers = service.callers("SELECT 1");
    callers.wait_for_more(50).await;
    service.fixture.revoke_first_lease().await;
    let dropped = Instant::now();
    assert_eq!(service.fixture.users().await, Vec::<String>::new());
    callers.wait_for_more(50).await;
    assert_eq!(
        service.db.generation(),
        1,
        "the hazard: callers succeed on connections of a dropped user"
    );
    eventually_within(Duration::from_secs(45), "it is found", || {
        service.db.generation() > 1
    })
    .await;
    assert!(
        dropped.elapsed() < Duration::from_secs(36),
        "{:?}",
        dropped.elapsed()
    );
    callers.wait_for_more(50).await;
    callers.stop_without_failure().await;
    assert_eq!(
        service.fixture.requests_to("database/creds/orders"),
        2,
        "one fetch, after the database had rejected"
    );
    service.fixture.wait_for_one_lease().await;
    assert_eq!(service.shutdown_and_check().await, 1);
}
