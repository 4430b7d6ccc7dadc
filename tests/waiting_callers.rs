//! What many waiting callers cost, and when their calls end. Time is paused: a task that wakes
//! without need shows in the number of wakes.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use claviger::Handle;
use claviger::lease::OldConnections;
use claviger_fixtures::{Scripted, backend_down, until_serving};
use claviger_testkit::{ScriptedPools, ScriptedProvider};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

const CALLERS: usize = 1_000;
/// The pool's acquire timeout.
const DEADLINE: Duration = Duration::from_secs(30);
/// Tolerance of the end of a call at its deadline.
const TOLERANCE: Duration = Duration::from_millis(10);

/// Callers that wait for a connection, and the sum of their wakes.
struct Waiting {
    callers: Vec<JoinHandle<(bool, Duration)>>,
    wakes: Arc<AtomicUsize>,
}

impl Waiting {
    fn start(pool: &Handle<ScriptedPools>) -> Self {
        let wakes = Arc::new(AtomicUsize::new(0));
        let callers = (0..CALLERS)
            .map(|_| {
                let (pool, wakes) = (pool.clone(), Arc::clone(&wakes));
                tokio::spawn(async move {
                    let began = Instant::now();
                    let mut call = pin!(pool.get());
                    let result = std::future::poll_fn(|context| {
                        wakes.fetch_add(1, Ordering::Relaxed);
                        call.as_mut().poll(context)
                    })
                    .await;
                    (result.is_ok(), began.elapsed())
                })
            })
            .collect();
        Self { callers, wakes }
    }

    fn wakes(&self) -> usize {
        self.wakes.load(Ordering::Relaxed)
    }

    /// Returns whether each caller got a connection, and when its call ended.
    async fn end(self) -> Vec<(bool, Duration)> {
        let mut ends = Vec::new();
        for caller in self.callers {
            ends.push(caller.await.expect("no panic"));
        }
        ends
    }
}

/// The database accepts no password that the backend has, and the pool's only open connection is
/// busy.
async fn rejected() -> (Scripted, impl Drop) {
    let scripted = Scripted::with(ScriptedProvider::new()).await;
    let busy = scripted.pool.get().await.expect("a connection");
    scripted.provider.fail_next(1_000, backend_down());
    scripted.database.accept_only(["another password"]);
    let error = tokio::time::timeout(Duration::from_secs(1), scripted.pool.get()).await;
    assert!(error.is_err(), "the call waits for the busy connection");
    let status = scripted.pool.status().expect("a status");
    assert!(status.rejected, "the hazard: the login was rejected");
    (scripted, busy)
}

/// The lease has expired, and the backend is down.
async fn expired() -> Scripted {
    let lifetime = Duration::from_secs(60);
    let provider = ScriptedProvider::new()
        .with_lifetime(lifetime)
        .with_old_connections(OldConnections::EndWithLease);
    let scripted = Scripted::with(provider).await;
    scripted.provider.fail_next(1_000, backend_down());
    sleep(lifetime + Duration::from_secs(5)).await;
    assert!(
        !scripted.lab.supervisor.readiness().ready,
        "the hazard: the lease expired"
    );
    scripted
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_end_at_their_deadline() {
    let (scripted, _busy) = rejected().await;
    let waiting = Waiting::start(&scripted.pool);
    for (is_served, took) in waiting.end().await {
        assert!(!is_served);
        assert!(
            (DEADLINE..DEADLINE + TOLERANCE).contains(&took),
            "a call ended after {took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn callers_behind_the_first_three_are_woken_only_by_changes() {
    let (scripted, _busy) = rejected().await;
    let waiting = Waiting::start(&scripted.pool);
    sleep(Duration::from_secs(5)).await;
    let before = (waiting.wakes(), scripted.provider.calls().len());
    sleep(Duration::from_secs(20)).await;
    let after = (waiting.wakes(), scripted.provider.calls().len());
    assert!(after.1 > before.1, "the hazard: fetches failed meanwhile");
    // The first three try every 16 ms.
    let tries = 3 * 20_000 / 16;
    let wakes = after.0 - before.0;
    assert!(wakes <= tries + CALLERS / 10, "{wakes} wakes");
    drop(waiting.end().await);
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_wakes_waiting_callers_for_attempts_alone() {
    let scripted = expired().await;
    let waiting = Waiting::start(&scripted.pool);
    sleep(Duration::from_secs(1)).await;
    let (wakes, fetches) = (waiting.wakes(), scripted.provider.calls().len());
    sleep(Duration::from_secs(20)).await;
    let wakes = waiting.wakes() - wakes;
    let fetches = scripted.provider.calls().len() - fetches;
    assert!(fetches >= 1, "the hazard: fetches failed meanwhile");
    assert!(
        wakes <= 3 * 20_000 / 16 + CALLERS / 10,
        "{wakes} wakes, {fetches} fetches"
    );
    drop(waiting.end().await);
}

/// Waits with eight callers while no credentials are valid, and then for the four connections of a
/// new generation. Returns the errors of the callers that got none.
async fn errors_after_a_new_generation(scripted: &Scripted) -> Vec<String> {
    // Between two fetches, which are ten seconds apart: after a failed one, a call ends at once if
    // the next one is later than its deadline.
    let fetches = || scripted.provider.calls().len();
    let before = fetches();
    let next_fetch = async {
        while fetches() == before {
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(DEADLINE, next_fetch)
        .await
        .expect("fetches are repeated");
    sleep(Duration::from_secs(5)).await;
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let pool = scripted.pool.clone();
            tokio::spawn(async move { pool.get().await })
        })
        .collect();
    sleep(DEADLINE * 4 / 5).await;
    let password = scripted.provider.rotate();
    scripted.database.accept_only([password]);
    scripted.provider.recover();
    drop(
        scripted
            .lab
            .supervisor
            .rotate_now("login")
            .await
            .expect("a new lease"),
    );
    until_serving(&scripted.pool).await;
    let mut outcomes = Vec::new();
    for caller in callers {
        outcomes.push(caller.await.expect("no panic"));
    }
    let errors = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    errors.map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_for_new_credentials_and_times_out_returns_the_rejection() {
    let (scripted, _busy) = rejected().await;
    let errors = errors_after_a_new_generation(&scripted).await;
    assert_eq!(errors.len(), 4, "the hazard: {errors:?}");
    for error in errors {
        assert!(error.contains("password authentication failed"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_for_new_credentials_and_times_out_names_the_expiry() {
    let scripted = expired().await;
    let errors = errors_after_a_new_generation(&scripted).await;
    assert_eq!(errors.len(), 4, "the hazard: {errors:?}");
    for error in errors {
        assert!(error.contains("generation 1"), "{error}");
        assert!(error.contains("expired at"), "{error}");
    }
}
