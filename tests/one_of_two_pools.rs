//! Two pools of one provider, of which one is rejected: how long the lease counts as rejected, and
//! when it is fetched.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::report::RotationOutcome;
use claviger::supervisor::ProviderRef;
use claviger::{Credentials, Handle};
use claviger_fixtures::{Scripted, rejection};
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use tokio::time::{Instant, sleep};

const HOUR: Duration = Duration::from_secs(3_600);
/// Polls in an hour: one every five minutes, less jitter.
const POLLS: usize = 14;

struct Fixture {
    lab: Lab,
    provider: ScriptedProvider,
    credentials: ProviderRef<Credentials>,
}

impl Fixture {
    /// Starts with one pool whose database accepts every password.
    async fn new() -> Self {
        let (lab, provider) = (Lab::new(), ScriptedProvider::new());
        let credentials = lab.add_provider("login", provider.clone()).await;
        lab.add_pool("accepted", &credentials, ScriptedPools::new(4))
            .await;
        Self {
            lab,
            provider,
            credentials,
        }
    }

    /// Adds a pool whose database rejects every password from now on.
    async fn rejected(&self, name: &str) -> (Handle<ScriptedPools>, ScriptedPools) {
        let database = ScriptedPools::new(4);
        let pool = self
            .lab
            .add_pool(name, &self.credentials, database.clone())
            .await;
        database.accept_only(["another"]);
        assert!(pool.rejected(1, &rejection()));
        sleep(Duration::from_secs(100)).await;
        assert!(
            self.is_rejected() && database.rejected() > 3,
            "the hazard: the lease is rejected again and again"
        );
        (pool, database)
    }

    fn is_rejected(&self) -> bool {
        self.lab
            .supervisor
            .status()
            .providers
            .first()
            .expect("registered")
            .rejected
    }

    async fn fetches_within_an_hour(&self) -> usize {
        let before = self.provider.calls().len();
        sleep(HOUR).await;
        self.provider.calls().len() - before
    }

    /// Asserts that nothing is rejected, and that only the schedule causes fetches.
    async fn assert_not_rejected(&self) {
        assert!(!self.is_rejected());
        let fetches = self.fetches_within_an_hour().await;
        assert!(fetches <= POLLS, "{fetches} fetches");
        assert!(!self.is_rejected());
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_could_not_start_leaves_no_rejection_behind() {
    let fixture = Fixture::new().await;
    let database = ScriptedPools::new(4);
    database.accept_only(["another"]);
    assert!(
        fixture
            .lab
            .supervisor
            .add_pool("rejected", &fixture.credentials, database.clone())
            .await
            .is_err()
    );
    assert!(
        database.rejected() > 1,
        "the hazard: the database rejected the lease"
    );
    fixture.assert_not_rejected().await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_pool_leaves_no_rejection_even_while_a_connection_is_open() {
    let fixture = Fixture::new().await;
    let (_pool, database) = fixture.rejected("rejected").await;
    let _connection = database.connection();
    fixture
        .lab
        .supervisor
        .remove_pool("rejected")
        .await
        .expect("the pool is removed");
    fixture.assert_not_rejected().await;
}

#[tokio::test(start_paused = true)]
async fn a_verification_that_ends_after_its_pool_was_removed_is_not_reported() {
    let fixture = Fixture::new().await;
    let (pool, database) = fixture.rejected("rejected").await;
    let _connection = database.connection();
    database.stall();
    while pool.status().expect("supervised").next_verification != Some(Duration::ZERO) {
        sleep(Duration::from_millis(100)).await;
    }
    // The verification is running now, and has seconds left.
    sleep(Duration::from_secs(1)).await;
    let before = database.rejected();
    let resumed = async {
        sleep(Duration::from_millis(100)).await;
        database.resume();
    };
    tokio::join!(fixture.lab.supervisor.remove_pool("rejected"), resumed)
        .0
        .expect("the pool is removed");
    assert_eq!(
        database.rejected(),
        before + 1,
        "the hazard: the verification ended with a rejection"
    );
    fixture.assert_not_rejected().await;
}

#[tokio::test(start_paused = true)]
async fn removing_the_last_pool_ends_its_rejection() {
    let fixture = Fixture::new().await;
    fixture
        .lab
        .supervisor
        .remove_pool("accepted")
        .await
        .expect("the pool is removed");
    let (_pool, _database) = fixture.rejected("rejected").await;
    fixture
        .lab
        .supervisor
        .remove_pool("rejected")
        .await
        .expect("the pool is removed");
    fixture.assert_not_rejected().await;
}

#[tokio::test(start_paused = true)]
async fn fetches_continue_for_a_rejected_pool_when_another_is_removed() {
    let fixture = Fixture::new().await;
    let (pool, database) = fixture.rejected("kept").await;
    let _ = fixture.rejected("removed").await;
    fixture
        .lab
        .supervisor
        .remove_pool("removed")
        .await
        .expect("the pool is removed");
    assert!(fixture.is_rejected());
    let fetches = fixture.fetches_within_an_hour().await;
    assert!((300..=361).contains(&fetches), "{fetches} fetches");
    assert!(fixture.is_rejected());
    database.accept_only([fixture.provider.rotate()]);
    sleep(Duration::from_secs(70)).await;
    assert_eq!(pool.generation(), 2);
    fixture.assert_not_rejected().await;
}

/// As with a backend that alternates between two credentials, both of which the database rejects.
#[tokio::test(start_paused = true)]
async fn two_alternating_candidates_do_not_slow_down_fetches() {
    let fixture = Fixture::new().await;
    fixture
        .lab
        .supervisor
        .remove_pool("accepted")
        .await
        .expect("the pool is removed");
    let (pool, database) = fixture.rejected("rejected").await;
    let mut calls = fixture.provider.calls().len();
    let before = calls;
    for _ in 0..3_600 {
        sleep(Duration::from_secs(1)).await;
        let count = fixture.provider.calls().len();
        if count != calls {
            calls = count;
            fixture.provider.roll_back_to(1 + u32::from(calls % 2 == 0));
        }
    }
    assert!(
        (300..=361).contains(&(calls - before)),
        "{} fetches",
        calls - before
    );
    database.accept_only([fixture.provider.rotate()]);
    sleep(Duration::from_secs(75)).await;
    assert!(pool.generation() > 1);
    let rotation = fixture
        .lab
        .supervisor
        .status()
        .providers
        .first()
        .expect("registered")
        .last_rotation
        .clone();
    assert_eq!(
        rotation.expect("a rotation ended").outcome,
        RotationOutcome::Adopted
    );
}

#[tokio::test(start_paused = true)]
async fn a_success_of_one_pool_makes_the_other_verify_within_a_second() {
    let lab = Lab::new();
    let (provider, large, small) = (
        ScriptedProvider::new(),
        ScriptedPools::new(20),
        ScriptedPools::new(3),
    );
    let credentials = lab.add_provider("login", provider.clone()).await;
    let one = lab.add_pool("one", &credentials, large.clone()).await;
    let two = lab.add_pool("two", &credentials, small.clone()).await;
    let accept = |password: &str| {
        [&large, &small]
            .iter()
            .for_each(|database| database.accept_only([password.to_owned()]))
    };
    accept("password-1");
    let next = provider.rotate();
    provider.hint();
    sleep(Duration::from_secs(8)).await;
    accept(&next);
    let served = |pool: Handle<_>| async move {
        let began = Instant::now();
        while pool.generation() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    };
    let (first, second) = tokio::join!(served(one), served(two));
    assert!(
        first.abs_diff(second) < Duration::from_secs(1),
        "{first:?} and {second:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_corrected_secret_leaves_no_error_in_the_status() {
    let Scripted {
        lab,
        provider,
        database,
        pool,
        ..
    } = Scripted::with_database(ScriptedProvider::new(), ScriptedPools::new(10)).await;
    database.accept_only(["password-1"]);
    provider.rotate();
    provider.hint();
    sleep(Duration::from_secs(5)).await;
    let last_error = || pool.status().expect("supervised").last_error;
    assert!(
        last_error().is_some(),
        "the hazard: the new lease is rejected"
    );
    provider.roll_back_to(1);
    lab.supervisor
        .rotate_now("login")
        .await
        .expect("the fetch succeeds");
    assert!(last_error().is_none(), "{:?}", last_error());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_reports_the_handover_of_each_pool_that_adopted_its_lease() {
    for _ in 0..50 {
        let Scripted {
            lab,
            provider,
            database,
            pool,
            ..
        } = Scripted::new().await;
        let mut events = lab.supervisor.events();
        let next = provider.rotate();
        database.accept_only([next]);
        assert!(pool.rejected(1, &rejection()));
        let report = loop {
            if let Some(claviger::events::Event::Rotated(report)) = events.next().await
                && report.outcome == RotationOutcome::Adopted
            {
                break report;
            }
        };
        assert_eq!(report.handovers.len(), 1, "{report:?}");
        lab.supervisor.shutdown(Duration::from_secs(1)).await;
    }
}
