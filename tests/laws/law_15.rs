//! Law 15: a call that is cancelled at any await point costs at most its own connection.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::task::Poll;
use std::time::Duration;

use claviger::Handle;
use claviger::lease::OldConnections;
use claviger_testkit::ScriptedProvider;
use futures_util::StreamExt;
use futures_util::future::{join_all, poll_fn};
use tokio::time::{Instant, sleep, timeout};

use super::fixtures::{eventually, eventually_within, sqlx};
use super::{ECHO, Fixture, IN_TRANSACTION, Pools};

const CONNECTIONS: u32 = 8;
const CALLERS: u64 = 16;
/// Cancelled calls of one storm.
const CANCELLED: u64 = 4_000;
/// Begins a transaction, on either server.
const READ_ONLY: &str = "START TRANSACTION READ ONLY";
/// Hints are coalesced to one per second.
const BETWEEN_ROTATIONS: Duration = Duration::from_millis(1_100);
/// Longest time within which a connection of a cancelled call is returned or closed.
const SETTLED: Duration = Duration::from_secs(15);

#[derive(Default)]
struct Counts {
    cancelled: [AtomicU64; 5],
    completed: [AtomicU64; 5],
    wrong: AtomicU64,
    /// Rotations that are still to come.
    rotations: AtomicU64,
    enough: AtomicBool,
}

impl Counts {
    fn total(counters: &[AtomicU64; 5]) -> u64 {
        counters
            .iter()
            .map(|counter| counter.load(Ordering::Relaxed))
            .sum()
    }
}

/// Polls a call until it is pending for the `polls`-th time, waits for `pause` without polling it,
/// and drops it. Returns its output if it completed before that.
async fn cancelled_after<T>(
    polls: u32,
    pause: Duration,
    call: impl Future<Output = T>,
) -> Option<T> {
    let mut call = pin!(call);
    let mut polled = 0;
    let output = poll_fn(|context| {
        if let Poll::Ready(output) = call.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        polled += 1;
        if polled == polls {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    })
    .await;
    if output.is_none() {
        // Timers have a resolution of a millisecond.
        let began = Instant::now();
        while began.elapsed() < pause {
            tokio::task::yield_now().await;
        }
    }
    output
}

/// Counts the panics of tasks from now on: a driver that lost track of its responses panics in a
/// task that no caller awaits.
fn count_panics() -> &'static AtomicU64 {
    static PANICS: AtomicU64 = AtomicU64::new(0);
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            print(panic);
        }));
    });
    &PANICS
}

/// Makes calls of all kinds and cancels each after a random number of polls.
async fn call_and_cancel(db: Handle<Pools>, counts: Arc<Counts>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    while !counts.enough.load(Ordering::Relaxed) {
        let kind = random.usize(0..5);
        let nonce = random.i64(1..1_000_000_000);
        let polls = random.u32(1..6);
        let pause = Duration::from_micros(random.u64(0..900));
        let call = async {
            match kind {
                0 => {
                    let transaction = db.begin().await?;
                    transaction.rollback().await?;
                    Ok(true)
                }
                4 => {
                    let transaction = db.begin_with(READ_ONLY).await?;
                    transaction.rollback().await?;
                    Ok(true)
                }
                1 => db.acquire().await.map(|_connection| true),
                2 => {
                    let echo = sqlx::query_scalar::<_, i64>(ECHO)
                        .bind(nonce)
                        .persistent(nonce % 2 == 0);
                    echo.fetch_one(&db).await.map(|echoed| echoed == nonce)
                }
                _ => {
                    let echo = sqlx::query_scalar::<_, i64>(ECHO)
                        .bind(nonce)
                        .persistent(nonce % 2 == 0);
                    let mut rows = echo.fetch(&db);
                    match rows.next().await {
                        Some(echoed) => echoed.map(|echoed| echoed == nonce),
                        None => Ok(false),
                    }
                }
            }
        };
        let result: Option<Result<bool, sqlx::Error>> = cancelled_after(polls, pause, call).await;
        let counters = match result {
            None => &counts.cancelled,
            Some(Ok(true)) => &counts.completed,
            Some(Ok(false)) => {
                counts.wrong.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Some(Err(error)) => panic!("a call of kind {kind} failed: {error}"),
        };
        counters[kind].fetch_add(1, Ordering::Relaxed);
        let is_enough = Counts::total(&counts.cancelled) >= CANCELLED
            && counts.rotations.load(Ordering::Relaxed) == 0;
        counts.enough.fetch_or(is_enough, Ordering::Relaxed);
    }
}

async fn storm(fixture: &Fixture, rotations: u64) {
    let panics = count_panics();
    let db = fixture.pool(CONNECTIONS).await;
    let counts = Arc::<Counts>::default();
    counts.rotations.store(rotations, Ordering::Relaxed);
    let callers: Vec<_> = (0..CALLERS)
        .map(|seed| tokio::spawn(call_and_cancel(db.clone(), Arc::clone(&counts), seed)))
        .collect();
    for _ in 0..rotations {
        let before = db.generation();
        fixture.rotate_announced().await;
        eventually("the next generation is served", || db.generation() > before).await;
        counts.rotations.fetch_sub(1, Ordering::Relaxed);
        sleep(BETWEEN_ROTATIONS).await;
    }
    for caller in callers {
        caller.await.expect("no call fails");
    }
    let (cancelled, completed) = (&counts.cancelled, &counts.completed);
    for counter in cancelled.iter().chain(completed) {
        let calls = counter.load(Ordering::Relaxed);
        assert!(
            calls > 100,
            "the hazard: calls of each kind are cancelled, and others complete"
        );
    }
    assert!(
        db.generation() > rotations,
        "the hazard: the pool was rotated"
    );
    assert_eq!(
        counts.wrong.load(Ordering::Relaxed),
        0,
        "results of other calls"
    );
    assert_eq!(panics.load(Ordering::Relaxed), 0, "panics");
    eventually_within(SETTLED, "the old generations drain", || {
        db.status().is_some_and(|status| status.draining.is_empty())
    })
    .await;
    // All are taken at once: none has leaked, and none is in a transaction of a cancelled call.
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(
            timeout(SETTLED, db.acquire())
                .await
                .expect("the pool has its full size")
                .expect("a connection"),
        );
    }
    for connection in &mut connections {
        let open: i64 = sqlx::query_scalar(IN_TRANSACTION)
            .fetch_one(&mut **connection)
            .await
            .expect("a count");
        assert_eq!(open, 0, "connections in a transaction that no caller has");
    }
    drop(connections);
    eventually_within(SETTLED, "all connections are idle", || {
        db.current().num_idle() == CONNECTIONS as usize
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_15_cancelled_calls_cost_only_their_connections() {
    let fixture = Fixture::new().await;
    storm(&fixture, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_15_calls_cancelled_while_pools_are_replaced_cost_only_their_connections() {
    let fixture = Fixture::new().await;
    storm(&fixture, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_15_calls_cancelled_during_updates_in_place_cost_only_their_connections() {
    let provider = ScriptedProvider::new().with_old_connections(OldConnections::Keep);
    let fixture = Fixture::with(provider).await;
    storm(&fixture, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn law_15_a_begin_cancelled_on_a_stalled_server_frees_its_place() {
    let fixture = Fixture::new().await;
    let options = fixture.pool_options(CONNECTIONS).test_before_acquire(false);
    let db = fixture.pool_with(options).await;
    let open = || async {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(db.acquire().await.expect("a connection"));
        }
        connections
    };
    drop(open().await);
    eventually("all connections are idle", || {
        db.current().num_idle() == CONNECTIONS as usize
    })
    .await;
    fixture
        .on_the_server(|server| server.stall().expect("the server stalls"))
        .await;
    let begins = (0..CONNECTIONS).map(|_| timeout(Duration::from_millis(200), db.begin()));
    for begun in join_all(begins).await {
        assert!(begun.is_err(), "the hazard: each is cancelled");
    }
    assert_eq!(
        db.current().size(),
        CONNECTIONS,
        "the hazard: each has sent its BEGIN"
    );
    eventually_within(SETTLED, "their places are free", || {
        db.current().size() == 0
    })
    .await;
    fixture
        .on_the_server(|server| server.resume().expect("the server resumes"))
        .await;
    for connection in &mut open().await {
        let began = Instant::now();
        let in_transaction = || sqlx::query_scalar::<_, i64>(IN_TRANSACTION);
        // PostgreSQL executes a late BEGIN before it finds the connection closed.
        while in_transaction()
            .fetch_one(&mut **connection)
            .await
            .expect("a count")
            > 0
        {
            assert!(began.elapsed() < SETTLED, "a transaction is open");
        }
    }
}

#[test]
fn law_15_a_begin_dropped_outside_of_a_runtime_costs_only_its_connection() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (fixture, db) = runtime.block_on(async {
        let fixture = Fixture::new().await;
        let options = fixture.pool_options(1).test_before_acquire(false);
        let db = fixture.pool_with(options).await;
        drop(db.acquire().await.expect("a connection"));
        eventually("it is idle", || db.current().num_idle() == 1).await;
        fixture
            .on_the_server(|server| server.stall().expect("the server stalls"))
            .await;
        (fixture, db)
    });
    let mut begin = Box::pin(db.begin());
    let begun = runtime.block_on(cancelled_after(1, Duration::ZERO, begin.as_mut()));
    assert!(
        begun.is_none() && db.current().num_idle() == 0,
        "the hazard: it waits for the response"
    );
    drop(begin);
    assert_eq!(db.current().size(), 0, "its place is free");
    runtime.block_on(async {
        fixture
            .on_the_server(|server| server.resume().expect("the server resumes"))
            .await;
        db.acquire().await.expect("a connection");
        drop(fixture);
    });
}
