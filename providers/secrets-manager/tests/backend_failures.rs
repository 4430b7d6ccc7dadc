//! needs: postgresql, moto
//!
//! Requests to the backend, and results of callers, while the backend works, throttles, cuts
//! responses off, hangs or is down.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use claviger::error::ProviderErrorKind;
use claviger::events::{Event, Events};
use claviger::{Handle, PgPools, Supervisor, SupervisorBuilder};
use claviger_fixtures::{Callers, eventually_within};
use claviger_rotator::Users;
use claviger_secrets_fixtures::{SECRET, SecretsFixture};
use claviger_secrets_manager::SecretsManager;
use claviger_servers::{InjectedFault, Postgres};
use sqlx::ConnectOptions;
use tokio::sync::Barrier;
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

struct Service {
    fixture: SecretsFixture<Postgres>,
    db: Handle<PgPools>,
    events: Events,
}

/// Starts a service with a pool on the secret.
async fn service(builder: SupervisorBuilder) -> Service {
    let fixture = SecretsFixture::<Postgres>::with_builder(Users::Single, builder).await;
    let events = fixture.database.supervisor.events();
    let provider = SecretsManager::new(&fixture.aws(), SECRET).expect("the settings are valid");
    let db = fixture.pool(provider, fixture.database.pools(10)).await;
    Service {
        fixture,
        db,
        events,
    }
}

impl Service {
    fn callers(&self) -> Callers {
        Callers::start_with_pause(&self.db, 16, "SELECT 1", Duration::from_millis(10))
    }

    /// Returns how many polls the backend received, with or without a response.
    fn polls(&self) -> usize {
        self.fixture.proxy.requests("DescribeSecret")
    }

    /// Shuts down and returns the kinds of the errors of all fetches.
    async fn failed_fetches(&mut self) -> Vec<ProviderErrorKind> {
        self.fixture.shutdown().await;
        let mut kinds = Vec::new();
        while let Some(event) = self.events.next().await {
            if let Event::FetchFailed { error, .. } = event {
                kinds.push(error.kind());
            }
        }
        kinds
    }
}

fn polled() -> SupervisorBuilder {
    Supervisor::builder().with_poll_interval(SECOND)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steady_state_costs_one_call_per_poll() {
    let mut service = service(polled()).await;
    eventually_within(10 * SECOND, "it is polled", || service.polls() >= 4).await;
    assert_eq!(
        service.fixture.value_requests(),
        1,
        "the value is requested once"
    );
    // The permission is gone: each poll requests the value, and the description is not requested
    // again.
    service.fixture.proxy.fault_on(
        "DescribeSecret",
        InjectedFault::reply(400, r#"{"__type":"AccessDeniedException"}"#),
    );
    let before = service.polls();
    eventually_within(10 * SECOND, "it is polled", || {
        service.fixture.value_requests() >= 4
    })
    .await;
    assert_eq!(service.polls(), before + 1);
    assert_eq!(service.db.generation(), 1);
    assert_eq!(service.failed_fetches().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_rejections_in_the_window_costs_two_calls() {
    let service = service(Supervisor::builder()).await;
    service.fixture.open_window().await;
    service.fixture.terminate_connections().await;
    let barrier = Arc::new(Barrier::new(1_000));
    let callers: Vec<_> = (0..1_000)
        .map(|_| {
            let (db, barrier) = (service.db.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                sqlx::query("SELECT 1").execute(&db).await
            })
        })
        .collect();
    let mut succeeded = 0;
    for caller in callers {
        match caller.await.expect("no panic") {
            Ok(_) => succeeded += 1,
            Err(error) => assert!(
                matches!(error, sqlx::Error::Io(_)),
                "neither succeeded nor interrupted: {error}"
            ),
        }
    }
    assert!(succeeded >= 980, "{succeeded} of 1,000");
    assert_eq!(service.fixture.value_requests(), 1 + 2);
    let rejected = service.fixture.database.rejected_logins();
    assert!((1..=13).contains(&rejected), "{rejected} failed logins");
    service.fixture.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_succeed_while_the_backend_is_down_for_half_a_minute() {
    let mut service = service(polled()).await;
    let callers = service.callers();
    callers.wait_for_more(100).await;
    service.fixture.proxy.fault(InjectedFault::Refuse);
    let (began, before) = (Instant::now(), service.fixture.proxy.connections());
    while began.elapsed() < 30 * SECOND {
        callers.wait_for_more(100).await;
    }
    let attempts = service.fixture.proxy.connections() - before;
    service.fixture.proxy.heal();
    let polls = service.polls();
    eventually_within(20 * SECOND, "it is polled again", || {
        service.polls() >= polls + 2
    })
    .await;
    callers.stop_without_failure().await;
    assert_eq!(service.db.generation(), 1);
    // One poll, three fetches from the token bucket, and one every ten seconds. The SDK makes
    // three attempts for each.
    assert!(
        (3..=3 * (1 + 3 + 3)).contains(&attempts),
        "{attempts} connections in 30 s"
    );
    let failed = service.failed_fetches().await;
    assert!(
        !failed.is_empty()
            && failed
                .iter()
                .all(|kind| *kind == ProviderErrorKind::Unavailable),
        "the hazard: {failed:?}"
    );
}

/// Opens the window, terminates all connections, and lets the backend fail for a while. Returns the
/// number of requests for the value and the kinds of the errors of all fetches.
async fn failure_in_the_window(
    fault: InjectedFault,
    lasts: Duration,
) -> (usize, Vec<ProviderErrorKind>) {
    let mut service = service(Supervisor::builder()).await;
    let callers = service.callers();
    callers.wait_for_more(100).await;
    let before = service.fixture.value_requests();
    service.fixture.proxy.fault_on("GetSecretValue", fault);
    let pending = service.fixture.open_window().await;
    service.fixture.terminate_connections().await;
    eventually_within(20 * SECOND, "the backend receives a request", || {
        service.fixture.value_requests() > before
    })
    .await;
    sleep(lasts).await;
    service.fixture.proxy.heal();
    // All callers may share a connection that was opened while the others were terminated. Then
    // the rejection is noticed later.
    eventually_within(30 * SECOND, "the next generation is current", || {
        service.db.generation() == 2
    })
    .await;
    callers.wait_for_more(100).await;
    let calls = service.fixture.value_requests() - before;
    service.fixture.close_window(&pending).await;
    let tally = callers.stop().await;
    assert_eq!(tally.failed.len(), 0, "{:?}", tally.failed.first());
    (calls, service.failed_fetches().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_is_left_to_the_sdks_own_retries() {
    let (calls, failed) = failure_in_the_window(
        InjectedFault::reply(400, r#"{"__type":"ThrottlingException"}"#),
        Duration::from_millis(800),
    )
    .await;
    // Three attempts for each failed fetch. The successful fetch reads two staging labels, with at
    // most three attempts each.
    assert!(
        (3..=3 * (failed.len() + 2)).contains(&calls),
        "{calls} calls, {failed:?}"
    );
    assert!(
        failed.len() <= 2
            && failed
                .iter()
                .all(|kind| *kind == ProviderErrorKind::Throttled),
        "{failed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_that_are_cut_off_cost_few_calls() {
    let (calls, failed) =
        failure_in_the_window(InjectedFault::Cut, Duration::from_millis(500)).await;
    assert!(
        (3..=3 * (failed.len() + 2)).contains(&calls),
        "{calls} calls, {failed:?}"
    );
    assert!(failed.len() <= 2, "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_hangs_times_out_by_the_sdks_own_limit() {
    let service = service(Supervisor::builder()).await;
    let callers = service.callers();
    callers.wait_for_more(100).await;
    // The password is changed, open connections keep working, and the backend hangs.
    service.fixture.proxy.fault(InjectedFault::Stall);
    let pending = service.fixture.open_window().await;
    let rejected = service
        .fixture
        .database
        .connect_options()
        .username("app")
        .password("password-1")
        .connect()
        .await
        .expect_err("it is changed");
    assert!(
        service.db.rejected(1, &rejected),
        "the reported rejection is the current generation's"
    );
    let succeeded_before = callers.succeeded();
    eventually_within(20 * SECOND, "an attempt times out and is retried", || {
        service.fixture.value_requests() >= 3
    })
    .await;
    assert!(
        callers.succeeded() >= succeeded_before + 100,
        "callers succeed meanwhile"
    );
    service.fixture.proxy.heal();
    eventually_within(20 * SECOND, "another version is published", || {
        service.db.generation() == 2
    })
    .await;
    service.fixture.close_window(&pending).await;
    callers.stop_without_failure().await;
    service.fixture.shutdown().await;
}
