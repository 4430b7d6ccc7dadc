//! Law 15: a call that is cancelled at any await point costs at most its own connection.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use claviger::lease::OldConnections;
use tokio::time::{Instant, sleep};

use crate::fixture::{Fixture, PoolOf, eventually};
use crate::{PgKind, Settings};

const MAX: u32 = 8;
const CALLERS: u64 = 16;
/// Cancelled calls of one storm.
const CANCELLED: u64 = 20_000;
/// Hints are coalesced to one per second.
const BETWEEN_ROTATIONS: Duration = Duration::from_millis(1_100);

#[derive(Default)]
struct Counts {
    /// Calls that were cancelled while they waited for a connection, and during their query.
    cancelled: [AtomicU64; 2],
    completed: AtomicU64,
    wrong: AtomicU64,
    /// Whether rotations are still to come.
    rotates: AtomicBool,
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
    let output = poll_fn(|context| match call.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => {
            polled += 1;
            if polled == polls {
                Poll::Ready(None)
            } else {
                Poll::Pending
            }
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

async fn call_and_cancel<K: PgKind>(pool: PoolOf<K>, counts: Arc<Counts>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    loop {
        let total = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        if counts.cancelled.iter().map(total).sum::<u64>() >= CANCELLED
            && !counts.rotates.load(Ordering::Relaxed)
        {
            return;
        }
        let nonce = random.i64(1..1_000_000_000);
        let got = AtomicBool::new(false);
        let call = async {
            let mut connection = pool.get().await.expect("a connection");
            got.store(true, Ordering::Relaxed);
            let sql = format!("select {nonce}::bigint as value");
            K::value(&mut connection, &sql).await.expect("a result") == nonce
        };
        let pause = Duration::from_micros(random.u64(0..600));
        // Every other call is cancelled early, most of them while they wait for a connection.
        let polls = if random.bool() { 1 } else { random.u32(2..7) };
        match cancelled_after(polls, pause, call).await {
            None => counts.cancelled[usize::from(got.load(Ordering::Relaxed))]
                .fetch_add(1, Ordering::Relaxed),
            Some(true) => counts.completed.fetch_add(1, Ordering::Relaxed),
            Some(false) => counts.wrong.fetch_add(1, Ordering::Relaxed),
        };
    }
}

async fn storm<K: PgKind>(old_connections: OldConnections, rotations: u64) {
    let fixture = Fixture::<K>::new(old_connections, Settings::of(MAX)).await;
    let counts = Arc::<Counts>::default();
    counts.rotates.store(rotations > 0, Ordering::Relaxed);
    let callers: Vec<_> = (0..CALLERS)
        .map(|seed| {
            let (pool, counts) = (fixture.pool.clone(), Arc::clone(&counts));
            tokio::spawn(call_and_cancel::<K>(pool, counts, seed))
        })
        .collect();
    for _ in 0..rotations {
        fixture.rotate().await;
        sleep(BETWEEN_ROTATIONS).await;
    }
    counts.rotates.store(false, Ordering::Relaxed);
    for caller in callers {
        caller.await.expect("no call fails");
    }
    let counters = counts.cancelled.iter().chain([&counts.completed]);
    for counter in counters {
        let calls = counter.load(Ordering::Relaxed);
        assert!(
            calls > 1_000,
            "the hazard: calls are cancelled early and late, and others complete: {calls}"
        );
    }
    assert_eq!(fixture.pool.generation(), 1 + rotations);
    assert_eq!(counts.wrong.load(Ordering::Relaxed), 0, "results of others");
    fixture.until_drained().await;
    // All are taken at once: none has leaked.
    let mut connections = fixture.hold(MAX).await;
    let in_transaction = "select count(*) as value from pg_stat_activity where usename = 'app' \
                          and state like 'idle in transaction%'";
    for connection in &mut connections {
        let open = K::value(connection, in_transaction).await;
        assert_eq!(open.expect("a count"), 0, "connections in a transaction");
    }
    eventually("the server has no more connections than the pool", || {
        fixture.open_connections("app") == MAX as usize
    })
    .await;
    let status = fixture.pool.status().expect("supervised");
    assert_eq!((status.connections, status.idle), (MAX, 0), "{status:?}");
    drop(connections);
    eventually("all connections are idle", || {
        let status = fixture.pool.status();
        status.is_some_and(|status| status.idle == MAX)
    })
    .await;
}

pub async fn law_15_cancelled_calls_cost_only_their_connections<K: PgKind>() {
    storm::<K>(OldConnections::Drain, 0).await;
}

pub async fn law_15_calls_cancelled_during_replacements_cost_only_their_connections<K: PgKind>() {
    storm::<K>(OldConnections::Drain, 3).await;
}

pub async fn law_15_calls_cancelled_during_updates_in_place_cost_only_their_connections<
    K: PgKind,
>() {
    storm::<K>(OldConnections::Keep, 3).await;
}
