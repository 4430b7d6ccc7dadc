//! A lease near its maximum.

use std::time::Duration;

use claviger_vault_fixtures::{ORDERS, Revocation, next_generation};
use tokio::time::Instant;

use crate::service::Service;

const TTL: u64 = 10;
const MAX: u64 = 25;

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_renewed_while_that_extends_it_and_replaced_before_its_maximum() {
    let service = Service::start(TTL, MAX, Revocation::Terminating).await;
    let (issued, first) = (Instant::now(), service.user().await);
    let callers = service.callers(ORDERS);
    next_generation(&service.db, 1).await;
    let took = issued.elapsed();
    assert!(
        took > Duration::from_secs(TTL),
        "renewals extended it: {took:?}"
    );
    // A renewal that adds 90 % of a ttl counts; at least the last third of a ttl is left.
    assert!(
        took < Duration::from_secs(MAX - TTL / 4),
        "the rest is left for the handover: {took:?}"
    );
    assert!(
        service.fixture.requests_to("sys/leases/renew") >= 2,
        "{} renewals",
        service.fixture.requests_to("sys/leases/renew")
    );
    assert_eq!(
        service.fixture.requests_to("database/creds/orders"),
        2,
        "a user for each generation"
    );
    assert_ne!(service.user().await, first);
    service.fixture.wait_for_one_lease().await;
    callers.wait_for_more(50).await;
    callers.stop_without_failure().await;
    service.shutdown_and_check().await;
}
