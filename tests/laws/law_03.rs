//! Law 3: a valid lease stays in use while the backend is down.

use std::time::Duration;

use super::fixtures::{Callers, backend_down, eventually_within};
use super::{Fixture, Pools};
use claviger::error::{ProviderError, ProviderErrorKind};
use claviger_testkit::ScriptedProvider;

#[tokio::test(flavor = "multi_thread")]
async fn law_03_queries_succeed_while_the_backend_is_down() {
    // The provider is polled every second, and each fetch after the first fails.
    let fixture =
        Fixture::with(ScriptedProvider::new().with_refresh_after(Duration::from_secs(1))).await;
    // Short-lived connections, so that logins are needed all the time.
    let pools = Pools::new(
        fixture.connect_options(),
        super::fixtures::short_lived(fixture.pool_options(4), Duration::from_millis(50)),
    );
    let db = fixture.pool_from(pools).await;
    let logins = fixture.accepted_logins();
    fixture.provider.fail_next(
        1_000,
        ProviderError::new(ProviderErrorKind::Denied, "the policy was revoked"),
    );
    let callers = Callers::start(&db, 8);
    eventually_within(Duration::from_secs(15), "fetches failed", || {
        fixture.provider.calls().len() >= 2
    })
    .await;
    fixture.provider.recover();
    fixture.provider.fail_next(1_000, backend_down());
    for _ in 0..2 {
        let calls = fixture.provider.calls().len();
        assert!(
            fixture.supervisor.rotate_now("login").await.is_err(),
            "a manual rotation returns the error"
        );
        assert!(fixture.provider.calls().len() > calls);
    }
    eventually_within(
        Duration::from_secs(15),
        "scheduled attempts continue",
        || fixture.provider.calls().len() >= 5,
    )
    .await;
    callers.wait_for_more(1_000).await;
    let tally = callers.stop().await;
    assert_eq!(tally.failed, Vec::<String>::new());
    assert_eq!((db.generation(), fixture.rejected_logins()), (1, 0));
    assert!(
        fixture.accepted_logins() > logins + 10,
        "connections were opened with the current lease"
    );
    let provider = &fixture.supervisor.status().providers[0];
    assert!(provider.revision.is_some() && provider.last_error.is_some());
    assert!(fixture.supervisor.readiness().ready, "the lease is valid");

    fixture.provider.recover();
    eventually_within(
        Duration::from_secs(15),
        "the backend is fetched from again",
        || {
            fixture.supervisor.status().providers[0]
                .last_error
                .is_none()
        },
    )
    .await;
}
