//! An administrator revokes the token or the lease, or drops the role.

use std::time::Duration;

use claviger_vault_fixtures::{Admin, ORDERS, Revocation, next_generation};
use tokio::time::Instant;

use crate::service::{Service, assert_only_dropped_users_failed};

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_its_leases_and_is_replaced() {
    let service = Service::start(60, 120, Revocation::Terminating).await;
    let callers = service.callers(ORDERS);
    callers.wait_for_more(50).await;
    assert_eq!(service.fixture.admin(Admin::revoke_tokens).await, 1);
    next_generation(&service.db, 1).await;
    callers.wait_for_more(50).await;
    let tally = callers.stop().await;
    assert_only_dropped_users_failed(&tally, 8);
    assert_eq!(service.fixture.requests_to("auth/approle/login"), 2);
    assert!(
        service.fixture.requests_to("database/creds/orders") <= 4,
        "one with each token, and two that found a new one revoked"
    );
    service.fixture.wait_for_one_lease().await;
    assert_eq!(
        service.shutdown_and_check().await,
        1,
        "the hazard: the user is rejected"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_revoked_costs_one_fetch_however_many_callers_there_are() {
    let service = Service::start(60, 120, Revocation::Terminating).await;
    let callers = service.callers(ORDERS);
    for generation in 1..=3 {
        callers.wait_for_more(50).await;
        service.fixture.revoke_first_lease().await;
        next_generation(&service.db, generation).await;
        assert_eq!(
            service.fixture.requests_to("database/creds/orders") as u64,
            1 + generation
        );
    }
    callers.wait_for_more(50).await;
    let tally = callers.stop().await;
    assert_only_dropped_users_failed(&tally, 3 * 8);
    service.fixture.wait_for_one_lease().await;
    assert_eq!(
        service.shutdown_and_check().await,
        3,
        "the hazard: each user is rejected"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_dropped_is_found_by_the_first_statement_without_rights() {
    let service = Service::start(60, 120, Revocation::Default).await;
    let callers = service.callers(ORDERS);
    let mut failed = 0;
    // The drops follow shortly after each other.
    for generation in 1..=3 {
        callers.wait_for_more(50).await;
        let user = service.user().await;
        service.fixture.sql(&format!("DROP ROLE \"{user}\"")).await;
        let dropped = Instant::now();
        next_generation(&service.db, generation).await;
        assert!(
            dropped.elapsed() < Duration::from_secs(9),
            "later than the first failed statement: {:?}",
            dropped.elapsed()
        );
        failed = callers.failures();
    }
    // Not after each drop: the login of a new connection may be rejected first.
    assert!(failed > 0, "the hazard: statements without rights");
    callers.wait_for_more(100).await;
    let tally = callers.stop().await;
    assert!(
        tally
            .failed
            .iter()
            .all(|error| error.contains("permission denied") || error.contains("does not exist")),
        "{:?}",
        tally.failed
    );
    // Each caller may have used a connection of the old user when it was dropped.
    assert!(
        tally.failed.len() <= failed + 8,
        "{} failed, and then {}",
        failed,
        tally.failed.len()
    );
    assert_eq!(
        service.fixture.requests_to("database/creds/orders"),
        4,
        "one fetch for each"
    );
    service.fixture.wait_for_one_lease().await;
    assert_eq!(service.shutdown_and_check().await, 3, "found by the probe");
}
