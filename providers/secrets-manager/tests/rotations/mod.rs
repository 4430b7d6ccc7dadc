//! Callers succeed during every step of a rotation. The file that declares this module names the
//! `Server`.

use std::time::Duration;

use claviger::events::{Event, Events};
use claviger_fixtures::{Callers, HandleOf, Tally, eventually};
use claviger_rotator::Users;
use claviger_secrets_fixtures::{SECRET, SecretsFixture, rotations, window};
use claviger_secrets_manager::{SecretsManager, SecretsManagerBuilder};
use tokio::time::{Instant, sleep_until};

use super::Server;

const CALLERS: usize = 16;
const CONNECTIONS: u32 = 10;
/// Pause of a caller after each query, which leaves CPU time to others. A statement that sleeps is
/// no alternative: terminating its connection delays MariaDB for seconds.
const PAUSE: Duration = Duration::from_millis(10);

/// A fixture with a service: a pool on the secret, and callers.
struct Service {
    fixture: SecretsFixture<Server>,
    db: HandleOf<Server>,
    callers: Callers,
    events: Events,
}

impl Service {
    async fn start(users: Users) -> Self {
        Self::start_with(users, |provider| provider).await
    }

    async fn start_with(
        users: Users,
        settings: impl FnOnce(SecretsManagerBuilder) -> SecretsManagerBuilder,
    ) -> Self {
        let fixture = SecretsFixture::<Server>::new(users).await;
        let provider = settings(SecretsManager::builder(&fixture.aws(), SECRET))
            .build()
            .expect("the settings are valid");
        let events = fixture.database.supervisor.events();
        let db = fixture
            .pool(provider, fixture.database.pools(CONNECTIONS))
            .await;
        let callers = Callers::start_with_pause(&db, CALLERS, "SELECT 1", PAUSE);
        callers.wait_for_more(50).await;
        Self {
            fixture,
            db,
            callers,
            events,
        }
    }

    /// Terminates all connections after the database was changed. Waits until the callers' queries
    /// have succeeded with the new credentials for a while.
    async fn cross_the_window(&self) {
        assert!(
            self.fixture.terminate_connections().await > 0,
            "the hazard: there are connections to terminate"
        );
        self.callers.wait_for_the_refill().await;
    }

    /// Stops the callers, checks that no query failed, and shuts down.
    async fn stop(mut self) -> (SecretsFixture<Server>, Tally, Vec<Event>) {
        let tally = self.callers.stop().await;
        self.fixture.shutdown().await;
        let mut events = Vec::new();
        while let Some(event) = self.events.next().await {
            events.push(event);
        }
        assert_eq!(tally.failed.len(), 0, "{:?} …", tally.failed.first());
        drop(self.db);
        (self.fixture, tally, events)
    }
}

/// Returns how often the database rejected the active credentials.
fn rejections(events: &[Event]) -> usize {
    events
        .iter()
        .filter(|event| matches!(event, Event::Rejected { .. }))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_continue_while_a_single_user_rotates() {
    let service = Service::start(Users::Single).await;
    let mut requests = vec![service.fixture.value_requests()];
    for _ in 0..rotations() {
        let pending = service.fixture.open_window().await;
        service.cross_the_window().await;
        service.fixture.close_window(&pending).await;
        requests.push(service.fixture.value_requests());
    }
    assert_eq!(service.db.generation(), rotations() as u64 + 1);
    let (fixture, _, events) = service.stop().await;
    assert_eq!(
        rejections(&events),
        rotations(),
        "the hazard: callers were rejected in each rotation"
    );
    let rejected = fixture.database.rejected_logins();
    assert!(rejected >= rotations(), "{rejected} failed logins");
    let each: Vec<_> = requests.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        each.iter().all(|&calls| calls == 2),
        "AWSCURRENT, AWSPENDING: {each:?}"
    );
    assert_eq!(requests[0], 1);
    assert!(
        fixture
            .proxy
            .log()
            .iter()
            .filter(|one| one.operation == "GetSecretValue")
            .all(|one| one.body.contains("VersionStage"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_continue_while_rotations_are_rolled_back() {
    let service = Service::start(Users::Single).await;
    let is_rolled_back = |rotation: usize| rotation % 8 != 7;
    let mut total = 0;
    for rotation in 0..rotations() {
        let before = service.fixture.value_requests();
        let pending = service.fixture.open_window().await;
        service.cross_the_window().await;
        if is_rolled_back(rotation) {
            service
                .fixture
                .rotator
                .roll_back(&pending)
                .await
                .expect("it is rolled back");
            service.fixture.terminate_connections().await;
            service.callers.wait_for_more(100).await;
        } else {
            service.fixture.close_window(&pending).await;
        }
        let requests = service.fixture.value_requests() - before;
        // Forward: AWSCURRENT, AWSPENDING. Rolled back: AWSCURRENT.
        let least = if is_rolled_back(rotation) { 3 } else { 2 };
        assert!(
            requests >= least,
            "rotation {rotation}: {requests} requests"
        );
        total += requests;
    }
    // A loaded machine may fetch between the two changes of a rollback, and read both once more.
    assert!(total <= 4 * rotations(), "{total} requests");
    let (_, _, events) = service.stop().await;
    let rolled_back = (0..rotations())
        .filter(|rotation| is_rolled_back(*rotation))
        .count();
    assert!(
        rejections(&events) >= rotations() + rolled_back,
        "the hazard: rejected by each change, and by each rollback"
    );
}

/// Runs rotations that stop at one step after another. Each is completed later, or rolled back.
async fn each_step_fails(users: Users) {
    let service = Service::start_with(users, |provider| match users {
        Users::Alternating => provider.with_alternating_users(),
        Users::Single => provider,
    })
    .await;
    let rotator = &service.fixture.rotator;
    for rotation in 0..rotations() {
        let before = service.fixture.value_requests();
        let failed = match rotation % 4 {
            // createSecret: half a version is written.
            0 => {
                service.fixture.put_pending("half a secr").await;
                service.fixture.terminate_connections().await;
                service.callers.wait_for_more(50).await;
                None
            }
            // setSecret: the database was changed, and the function received no response.
            1 => Some(service.fixture.open_window().await),
            // testSecret: it cannot reach the database.
            2 => {
                let pending = service.fixture.open_window().await;
                rotator.test_secret(&pending).await.expect("it is there");
                Some(pending)
            }
            // finishSecret: AWSCURRENT was moved, and AWSPENDING is still on the same version.
            _ => {
                let pending = service.fixture.open_window().await;
                service.fixture.move_current(&pending.version).await;
                Some(pending)
            }
        };
        if failed.is_some() {
            service.cross_the_window().await;
        }
        match failed {
            // The rotation is abandoned, and the database accepts AWSCURRENT again.
            Some(pending) if rotation % 8 == 1 => {
                rotator
                    .roll_back(&pending)
                    .await
                    .expect("it is rolled back");
                service.fixture.terminate_connections().await;
                service.callers.wait_for_more(50).await;
            }
            // The rotation continues where it stopped.
            Some(pending) if rotation % 4 != 3 => service.fixture.close_window(&pending).await,
            Some(pending) => service.fixture.unstage(&pending.version).await,
            // The rotation runs once more from the first step.
            None => {
                let pending = service.fixture.open_window().await;
                service.cross_the_window().await;
                service.fixture.close_window(&pending).await;
            }
        }
        let requests = service.fixture.value_requests() - before;
        assert!(
            requests <= 6,
            "rotation {rotation}: {requests} requests; at most three for each rejection"
        );
    }
    let (fixture, _, events) = service.stop().await;
    let hazards = if users == Users::Single {
        rotations() / 2
    } else {
        rotations() / 8
    };
    assert!(
        rejections(&events) >= hazards.max(1),
        "the hazard: {} rejections",
        rejections(&events)
    );
    assert!(fixture.database.rejected_logins() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_continue_while_each_step_fails_for_a_single_user() {
    each_step_fails(Users::Single).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_continue_while_each_step_fails_for_alternating_users() {
    each_step_fails(Users::Alternating).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alternating_users_that_are_not_polled() {
    let service = Service::start_with(
        Users::Alternating,
        SecretsManagerBuilder::with_alternating_users,
    )
    .await;
    for _ in 0..rotations() {
        let pending = service.fixture.open_window().await;
        service.cross_the_window().await;
        service.fixture.close_window(&pending).await;
    }
    let requests = service.fixture.value_requests();
    let (_, _, events) = service.stop().await;
    // The active credentials are rejected in the rotation that changes their user again, the next
    // one after they were adopted. The current version then works.
    assert_eq!(rejections(&events), rotations() - 1, "the hazard");
    assert_eq!(
        requests,
        rotations(),
        "one at the start, and one for each rejection"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn alternating_users_that_are_polled_are_never_rejected_and_never_retried_early() {
    let service = Service::start_with(
        Users::Alternating,
        SecretsManagerBuilder::with_alternating_users,
    )
    .await;
    let mut transaction = service.db.begin().await.expect("a connection");
    for _ in 0..rotations() {
        let pending = service.fixture.open_window().await;
        let end = Instant::now() + window();
        service.callers.wait_for_more(100).await;
        sleep_until(end).await;
        service.fixture.close_window(&pending).await;
        service
            .fixture
            .database
            .supervisor
            .rotate_now("login")
            .await
            .expect("it polls");
    }
    let generation = service.db.generation();
    assert_eq!(
        generation,
        rotations() as u64 + 1,
        "each version was published"
    );
    // Connections of every generation: none was closed.
    let status = service.db.status().expect("supervised");
    assert!(status.draining.is_empty(), "{status:?}");
    sqlx::query("SELECT 1")
        .execute(&mut *transaction)
        .await
        .expect("the first generation's connection still works");
    transaction.commit().await.expect("it commits");
    let requests = service.fixture.value_requests();
    assert_eq!(requests, 1 + rotations(), "one for each version");
    let (fixture, tally, events) = service.stop().await;
    assert_eq!(
        (
            rejections(&events),
            fixture.database.rejected_logins(),
            tally.interrupted
        ),
        (0, 0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_in_the_window() {
    let fixture = SecretsFixture::<Server>::new(Users::Single).await;
    let pending = fixture.open_window().await;
    let provider = SecretsManager::new(&fixture.aws(), SECRET).expect("the settings are valid");
    // AWSPENDING is verified.
    let db = fixture
        .pool(provider, fixture.database.pools(CONNECTIONS))
        .await;
    assert_eq!(db.generation(), 1);
    assert_eq!(
        fixture.database.rejected_logins(),
        1,
        "the hazard: AWSCURRENT was rejected"
    );
    assert_eq!(fixture.value_requests(), 3);
    fixture.close_window(&pending).await;
    eventually("it serves", || {
        db.status().is_some_and(|status| status.serving)
    })
    .await;
    fixture.shutdown().await;
}
