//! Callers succeed during every step of a rotation. The including file names the `Server`.

use std::time::Duration;

use claviger::events::{Event, Events};
use claviger::{Supervisor, SupervisorBuilder};
use claviger_fixtures::{Callers, HandleOf, Tally, eventually};
use claviger_rotator::Users;
use claviger_secrets_fixtures::{SECRET, SecretsFixture, rotations, window};
use claviger_secrets_manager::{SecretsManager, SecretsManagerBuilder};
use claviger_testkit::Lab;
use tokio::time::{Instant, sleep_until};

use super::Server;

const CALLERS: usize = 16;
const CONNECTIONS: u32 = 10;
/// Callers leave some CPU to the others. (They run no statement that sleeps: killing one delays
/// MariaDB for seconds.)
const REST: Duration = Duration::from_millis(10);

/// A fixture with a service: a pool on the secret, and callers.
struct Service {
    fixture: SecretsFixture<Server>,
    db: HandleOf<Server>,
    callers: Callers,
    events: Events,
}

impl Service {
    async fn start(users: Users) -> Self {
        Self::start_with(users, Supervisor::builder(), |provider| provider).await
    }

    async fn start_with(
        users: Users,
        builder: SupervisorBuilder,
        settings: impl FnOnce(SecretsManagerBuilder) -> SecretsManagerBuilder,
    ) -> Self {
        let mut fixture = SecretsFixture::<Server>::new(users).await;
        fixture.database.supervisor = Lab::with_builder(builder)
            .expect("the settings are valid")
            .supervisor;
        let provider = settings(SecretsManager::builder(&fixture.aws(), SECRET))
            .build()
            .expect("the settings are valid");
        let events = fixture.database.supervisor.events();
        let login = fixture
            .database
            .supervisor
            .add_provider("login", provider)
            .await
            .expect("a lease");
        let db = fixture
            .database
            .supervisor
            .add_pool("orders", &login, fixture.database.pools(CONNECTIONS))
            .await
            .expect("verified");
        let callers = Callers::start_with_pause(&db, CALLERS, "SELECT 1", REST);
        callers.wait_for_more(50).await;
        Self {
            fixture,
            db,
            callers,
            events,
        }
    }

    /// Cuts all connections after the database was changed. The callers' queries still succeed, and
    /// the service uses the new credentials for a while.
    async fn through_the_window(&self) {
        assert!(
            self.fixture.terminate_connections().await > 0,
            "the hazard: there are connections to cut"
        );
        self.callers.wait_for_the_refill().await;
    }

    /// Stops the callers: none has failed, and some succeeded all along.
    async fn stop(mut self) -> (SecretsFixture<Server>, Tally, Vec<Event>) {
        let tally = self.callers.stop().await;
        self.fixture
            .database
            .supervisor
            .shutdown(Duration::from_secs(5))
            .await;
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
async fn a_single_user() {
    let service = Service::start(Users::Single).await;
    let mut requests = vec![service.fixture.value_requests()];
    for _ in 0..rotations() {
        let pending = service.fixture.open_window().await;
        service.through_the_window().await;
        service.fixture.close_window(&pending).await;
        requests.push(service.fixture.value_requests());
    }
    assert_eq!(service.db.generation(), rotations() as u64 + 1);
    let (fixture, _, events) = service.stop().await;
    assert_eq!(
        rejections(&events),
        rotations(),
        "the hazard: each rotation was met by callers"
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
async fn a_single_user_whose_rotations_are_rolled_back_one_after_the_other() {
    let service = Service::start(Users::Single).await;
    let is_rolled_back = |turn: usize| turn % 8 != 7;
    for turn in 0..rotations() {
        let before = service.fixture.value_requests();
        let pending = service.fixture.open_window().await;
        service.through_the_window().await;
        if is_rolled_back(turn) {
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
        assert_eq!(
            requests,
            if is_rolled_back(turn) { 3 } else { 2 },
            "turn {turn}"
        );
    }
    let (_, _, events) = service.stop().await;
    let rolled_back = (0..rotations())
        .filter(|turn| is_rolled_back(*turn))
        .count();
    assert_eq!(
        rejections(&events),
        rotations() + rolled_back,
        "the hazard: there, and back"
    );
}

/// Rotations that stop at one step after another, each in the worst way. A further rotation
/// completes them, or they are rolled back.
async fn each_step_fails(users: Users) {
    let service = Service::start_with(users, Supervisor::builder(), |provider| match users {
        Users::Alternating => provider.with_alternating_users(),
        Users::Single => provider,
    })
    .await;
    let rotator = &service.fixture.rotator;
    for turn in 0..rotations() {
        let before = service.fixture.value_requests();
        let failed = match turn % 4 {
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
            service.through_the_window().await;
        }
        match failed {
            // The rotation is abandoned, and AWSCURRENT is what the database has again.
            Some(pending) if turn % 8 == 1 => {
                rotator
                    .roll_back(&pending)
                    .await
                    .expect("it is rolled back");
                service.fixture.terminate_connections().await;
                service.callers.wait_for_more(50).await;
            }
            // It continues where it stopped.
            Some(pending) if turn % 4 != 3 => service.fixture.close_window(&pending).await,
            Some(pending) => service.fixture.unstage(&pending.version).await,
            // It runs once more from the start.
            None => {
                let pending = service.fixture.open_window().await;
                service.through_the_window().await;
                service.fixture.close_window(&pending).await;
            }
        }
        let requests = service.fixture.value_requests() - before;
        assert!(
            requests <= 6,
            "turn {turn}: at most three each time that the database rejects: {requests}"
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
async fn a_single_user_each_step_failing() {
    each_step_fails(Users::Single).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alternating_users_each_step_failing() {
    each_step_fails(Users::Alternating).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alternating_users_that_are_not_polled() {
    let service = Service::start_with(
        Users::Alternating,
        Supervisor::builder(),
        SecretsManagerBuilder::with_alternating_users,
    )
    .await;
    for _ in 0..rotations() {
        let pending = service.fixture.open_window().await;
        service.through_the_window().await;
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
        "the start, and one for each rejection"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn alternating_users_that_are_polled_are_never_rejected_and_never_retried_early() {
    let service = Service::start_with(
        Users::Alternating,
        Supervisor::builder(),
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
    let mut fixture = SecretsFixture::<Server>::new(Users::Single).await;
    fixture.database.supervisor = Lab::new().supervisor;
    let pending = fixture.open_window().await;
    let provider = SecretsManager::new(&fixture.aws(), SECRET).expect("the settings are valid");
    let login = fixture
        .database
        .supervisor
        .add_provider("login", provider)
        .await
        .expect("a lease");
    let db = fixture
        .database
        .supervisor
        .add_pool("orders", &login, fixture.database.pools(CONNECTIONS))
        .await
        .expect("verified by what is pending");
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
    fixture
        .database
        .supervisor
        .shutdown(Duration::from_secs(5))
        .await;
}
