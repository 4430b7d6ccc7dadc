//! needs: postgresql
//!
//! Law 3: the store may be down for hours; what is held goes on serving.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::{ProviderError, ProviderErrorKind};
use claviger_fixtures::{Callers, Fixture, backend_down, eventually_within};
use claviger_testkit::ScriptedProvider;

#[tokio::test(flavor = "multi_thread")]
async fn law_03_queries_do_not_notice_a_store_that_is_down() {
    // It asks to be looked at every second, and from then on every answer is an error.
    let fixture =
        Fixture::with(ScriptedProvider::new().with_refresh_after(Duration::from_secs(1))).await;
    // New logins are needed all the time.
    let pools = claviger::PgPools::new(
        fixture.connect_options(),
        claviger_fixtures::short_lived(fixture.pool_options(4), Duration::from_millis(50)),
    );
    let db = fixture.pool_from(pools).await;
    let logins = fixture.accepted_logins();
    fixture.provider.fail_next(
        1_000,
        ProviderError::new(ProviderErrorKind::Denied, "the policy was taken away"),
    );
    let callers = Callers::start(&db, 8);
    eventually_within(Duration::from_secs(15), "the store failed", || {
        fixture.provider.calls().len() >= 2
    })
    .await;
    fixture.provider.recover();
    fixture.provider.fail_next(1_000, backend_down());
    for _ in 0..2 {
        let calls = fixture.provider.calls().len();
        assert!(
            fixture.supervisor.rotate_now("login").await.is_err(),
            "whoever asks is told"
        );
        assert!(fixture.provider.calls().len() > calls);
    }
    eventually_within(
        Duration::from_secs(15),
        "attempts go on by themselves",
        || fixture.provider.calls().len() >= 5,
    )
    .await;
    callers.wait_for_more(1_000).await;
    let tally = callers.stop().await;
    assert_eq!(tally.failed, Vec::<String>::new());
    assert_eq!((db.generation(), fixture.rejected_logins()), (1, 0));
    assert!(
        fixture.accepted_logins() > logins + 10,
        "connections were opened with the lease that is held"
    );
    let provider = &fixture.supervisor.status().providers[0];
    assert!(provider.revision.is_some() && provider.last_error.is_some());
    assert!(
        fixture.supervisor.readiness().ready,
        "the credential is good"
    );

    fixture.provider.recover();
    eventually_within(Duration::from_secs(15), "the store is asked again", || {
        fixture.supervisor.status().providers[0]
            .last_error
            .is_none()
    })
    .await;
}
