//! The server is sealed, restarted or down.

use std::time::Duration;

use claviger::error::ProviderErrorKind;
use claviger_fixtures::eventually_within;
use claviger_vault_fixtures::{
    ORDERS, Revocation, assert_only_expired_leases_failed, next_generation,
};
use tokio::time::timeout;

use crate::service::Service;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn callers_succeed_while_a_server_is_sealed_and_unsealed() {
    let mut service = Service::start(30, 90, Revocation::Terminating).await;
    let callers = service.callers(ORDERS);
    service.fixture.admin(|admin| Ok(admin.vault.seal()?)).await;
    let before = service.fixture.proxy.log().len();
    for _ in 0..2 {
        let error = service.fetch_fails().await;
        assert_eq!(error.kind(), ProviderErrorKind::Unavailable, "{error}");
        assert!(
            error.to_string().contains("Vault is sealed; unseal it"),
            "{error}"
        );
    }
    let requests = service.fixture.proxy.log().len() - before;
    assert!(requests <= 3, "{requests} requests for two attempts");
    service
        .fixture
        .admin(|admin| Ok(admin.vault.unseal()?))
        .await;
    eventually_within(30 * SECOND, "the lease is renewed", || {
        service.time_left() > 20 * SECOND
    })
    .await;
    callers.wait_for_more(50).await;
    callers.stop_without_failure().await;
    assert_eq!(service.db.generation(), 1, "the same user is active");
    service.fixture.wait_for_one_lease().await;
    service.shutdown_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_succeed_through_a_restart_of_the_server() {
    let service = Service::start(30, 90, Revocation::Terminating).await;
    let callers = service.callers(ORDERS);
    service.rotate().await;
    let generation = service.db.generation();
    service.fixture.admin(|admin| Ok(admin.vault.stop()?)).await;
    let error = service.rotation_fails().await;
    assert_eq!(error.kind(), ProviderErrorKind::Unavailable, "{error}");
    assert!(
        error.to_string().contains("Vault cannot be reached"),
        "{error}"
    );
    callers.wait_for_more(50).await;
    service
        .fixture
        .admin(|admin| Ok(admin.vault.start_again()?))
        .await;
    service.rotate().await;
    assert_eq!(service.db.generation(), generation + 1);
    callers.wait_for_more(50).await;
    callers.stop_without_failure().await;
    service.fixture.wait_for_one_lease().await;
    service.shutdown_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_longer_than_a_lease_callers_succeed_again() {
    let service = Service::start(10, 30, Revocation::Terminating).await;
    let callers = service.callers(ORDERS);
    callers.wait_for_more(50).await;
    service.fixture.admin(|admin| Ok(admin.vault.stop()?)).await;

    // Until the lease expires nothing changes.
    eventually_within(20 * SECOND, "the lease expires within a second", || {
        service.time_left() < SECOND
    })
    .await;
    callers.wait_for_more(8).await;
    assert_eq!(callers.failures(), 0, "while the lease is valid");
    eventually_within(5 * SECOND, "the lease expires", || {
        service.time_left().is_zero()
    })
    .await;
    // The server is down and does not drop the user; its connections are terminated instead.
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                     WHERE usename LIKE 'v-%'";
    service.fixture.sql(terminate).await;
    let error = timeout(10 * SECOND, async {
        loop {
            match sqlx::query(ORDERS).execute(&service.db).await {
                Err(error)
                    if matches!(error, sqlx::Error::Io(_))
                        && error.to_string().contains("expired at") =>
                {
                    return error.to_string();
                }
                _ => tokio::time::sleep(SECOND / 100).await,
            }
        }
    });
    let error = error.await.expect("callers get an error");
    assert!(error.contains("Vault cannot be reached"), "{error}");
    assert!(
        !service.fixture.supervisor.readiness().ready,
        "it is not ready"
    );
    eventually_within(10 * SECOND, "callers get an error", || {
        callers.failures() > 0
    })
    .await;

    // No part of the service is restarted.
    service
        .fixture
        .admin(|admin| Ok(admin.vault.start_again()?))
        .await;
    next_generation(&service.db, 1).await;
    let failed = callers.failures();
    callers.wait_for_more(100).await;
    let tally = callers.stop().await;
    assert_eq!(tally.failed.len(), failed, "it succeeds again");
    assert_only_expired_leases_failed(&tally);
    service.fixture.wait_for_one_lease().await;
    service.shutdown_and_check().await;
}
