//! needs: postgresql
//!
//! What other callers get while a login is slow or hangs, or when its connection fails.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use claviger::pool::HandoverPolicy;
use claviger::{Handle, PgPools, Supervisor};
use claviger_fixtures::{Fixture, eventually, query, signal, until_generation};
use futures_util::future::join_all;
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Executor, Row};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const ORDERING: Ordering = Ordering::SeqCst;

/// Time for which one caller queries again and again.
const QUERIES_FOR: Duration = Duration::from_secs(3);

/// Logins that one caller may need: a returned connection is busy for a moment.
const LOGINS_OF_ONE_CALLER: u32 = 4;

/// Queries from one caller, and returns how many connections were opened for it. Each login takes
/// a second.
async fn logins_of_one_caller(db: &Handle<PgPools>, millis: &AtomicU64) -> u32 {
    let before = db.current().size();
    millis.store(1_000, ORDERING);
    let end = Instant::now() + QUERIES_FOR;
    while Instant::now() < end {
        query(db).await.expect("it succeeds");
    }
    db.current().size() - before
}

/// Returns options whose connections take this many milliseconds to open.
fn slow(options: PgPoolOptions, millis: &Arc<AtomicU64>) -> PgPoolOptions {
    let millis = Arc::clone(millis);
    options.after_connect(move |_, _| {
        let millis = Arc::clone(&millis);
        Box::pin(async move {
            sleep(Duration::from_millis(millis.load(ORDERING))).await;
            Ok(())
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_pool_fills_as_fast_as_sqlx_fills_one() {
    let fixture = Fixture::new().await;
    let options = slow(fixture.pool_options(10), &Arc::new(AtomicU64::new(500)));
    let plain = fixture.plain_pool("password-1", options.clone());
    let db = fixture.pool_with(options).await;
    // No login has succeeded recently, so only the first one is admitted.
    sleep(Duration::from_millis(1_500)).await;
    let began = Instant::now();
    let theirs = join_all((0..10).map(|_| plain.acquire())).await;
    let sqlx = began.elapsed();
    drop(theirs);
    let began = Instant::now();
    let ours = join_all((0..10).map(|_| db.acquire())).await;
    let took = began.elapsed();
    assert!(ours.iter().all(Result::is_ok));
    assert!(took < sqlx * 2, "sqlx {sqlx:?}, ours {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_does_not_fill_the_pool() {
    let fixture = Fixture::new().await;
    let millis = Arc::default();
    let db = fixture
        .pool_with(slow(fixture.pool_options(20), &millis))
        .await;
    let opened = logins_of_one_caller(&db, &millis).await;
    assert!(opened <= LOGINS_OF_ONE_CALLER, "{opened} logins");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_does_not_fill_the_pool_during_a_drain() {
    let fixture = Fixture::new().await;
    let millis = Arc::default();
    let db = fixture
        .pool_with(slow(fixture.pool_options(20), &millis))
        .await;
    let old = db.acquire().await.expect("a connection");
    fixture.rotate_announced().await;
    until_generation(&db, 2).await;
    let opened = logins_of_one_caller(&db, &millis).await;
    drop(old);
    assert!(opened <= LOGINS_OF_ONE_CALLER, "{opened} logins");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_returned_connection_serves_a_waiting_caller_after_the_before_acquire_hook() {
    let fixture = Fixture::new().await;
    let (millis, hook_calls) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU32::new(0)));
    let options = slow(
        fixture
            .pool_options(4)
            .acquire_timeout(Duration::from_secs(8)),
        &millis,
    )
    .before_acquire({
        let hook_calls = Arc::clone(&hook_calls);
        move |_, _| {
            hook_calls.fetch_add(1, ORDERING);
            Box::pin(async { Ok(true) })
        }
    });
    let db = fixture.pool_with(options).await;
    let first = db.acquire().await.expect("a connection");
    millis.store(4_500, ORDERING);
    hook_calls.store(0, ORDERING);
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move {
                let began = Instant::now();
                drop(db.acquire().await.expect("a connection"));
                began.elapsed()
            })
        })
        .collect();
    sleep(Duration::from_millis(200)).await;
    drop(first);
    let waits: Vec<_> = join_all(callers)
        .await
        .into_iter()
        .map(|wait| wait.expect("no panic"))
        .collect();
    assert!(
        waits.iter().all(|wait| *wait < Duration::from_secs(2)),
        "{waits:?}"
    );
    assert_eq!(
        hook_calls.load(ORDERING),
        3,
        "each caller got the returned connection"
    );
}

/// A pool of four whose hook rejects the first idle connection after `rejects` is set. A caller
/// that was about to get it opens a connection instead.
async fn pool_that_rejects_one(
    fixture: &Fixture,
    millis: &Arc<AtomicU64>,
    rejects: &Arc<AtomicU32>,
) -> Handle<PgPools> {
    let options = fixture
        .pool_options(4)
        .acquire_timeout(Duration::from_secs(8));
    let rejects = Arc::clone(rejects);
    let options = slow(options, millis).before_acquire(move |_, _| {
        let rejected = rejects.swap(0, ORDERING) == 1;
        Box::pin(async move { Ok(!rejected) })
    });
    fixture.pool_with(options).await
}

/// Acquires in a task, and returns how long that took.
fn timed_acquire(db: &Handle<PgPools>) -> JoinHandle<Duration> {
    let db = db.clone();
    tokio::spawn(async move {
        let began = Instant::now();
        drop(db.acquire().await.expect("a connection"));
        began.elapsed()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_lost_an_idle_connection_gets_a_returned_one() {
    let fixture = Fixture::new().await;
    let (millis, rejects) = (Arc::default(), Arc::default());
    let db = pool_that_rejects_one(&fixture, &millis, &rejects).await;
    let busy = db.acquire().await.expect("a connection");
    drop(db.acquire().await.expect("a second connection"));
    eventually("one is idle", || db.current().num_idle() == 1).await;
    millis.store(4_500, ORDERING);
    rejects.store(1, ORDERING);
    let caller = timed_acquire(&db);
    eventually("the hook was called", || rejects.load(ORDERING) == 0).await;
    sleep(Duration::from_millis(200)).await;
    drop(busy);
    let waited = caller.await.expect("no panic");
    assert!(waited < Duration::from_secs(3), "{waited:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_caller_that_lost_a_returned_connection_gets_the_next() {
    let fixture = Fixture::new().await;
    let (millis, rejects) = (Arc::default(), Arc::default());
    let db = pool_that_rejects_one(&fixture, &millis, &rejects).await;
    let busy = db.acquire().await.expect("a connection");
    let returned = db.acquire().await.expect("a second connection");
    millis.store(4_500, ORDERING);
    rejects.store(1, ORDERING);
    let callers = [timed_acquire(&db), timed_acquire(&db)];
    sleep(Duration::from_millis(50)).await;
    drop(returned);
    eventually("the hook was called", || rejects.load(ORDERING) == 0).await;
    sleep(Duration::from_millis(200)).await;
    drop(busy);
    for caller in callers {
        let waited = caller.await.expect("no panic");
        assert!(waited < Duration::from_secs(3), "{waited:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_login_whose_connection_hangs_keeps_no_permit() {
    let fixture = Fixture::new().await;
    let (on, stopped) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicI32::new(0)));
    let options = fixture
        .pool_options(4)
        .acquire_timeout(Duration::from_secs(3))
        .after_connect({
            let (on, stopped) = (Arc::clone(&on), Arc::clone(&stopped));
            move |connection, _| {
                let (on, stopped) = (Arc::clone(&on), Arc::clone(&stopped));
                Box::pin(async move {
                    if on.swap(0, ORDERING) == 1 {
                        let pid: i32 = connection
                            .fetch_one("SELECT pg_backend_pid()")
                            .await?
                            .try_get(0)?;
                        sleep(Duration::from_millis(300)).await;
                        signal("-STOP", pid);
                        stopped.store(pid, ORDERING);
                    }
                    Ok(())
                })
            }
        });
    let db = fixture.pool_with(options).await;
    on.store(1, ORDERING);
    let call = query(&db);
    assert!(
        timeout(Duration::from_millis(100), call).await.is_err(),
        "the caller times out"
    );
    sleep(Duration::from_secs(1)).await;
    let pid = stopped.load(ORDERING);
    assert_ne!(pid, 0, "the hazard: the connection hangs");
    let results = join_all((0..3).map(|_| query(&db))).await;
    signal("-KILL", pid);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// Terminates a connection and returns when its process has exited. A connection that still worked
/// after its login would serve other callers, and fail one of those.
async fn terminate(killer: &PgPool, pid: i32) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_terminate_backend($1)")
        .bind(pid)
        .execute(killer)
        .await?;
    let count = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1";
    while sqlx::query_scalar::<_, i64>(count)
        .bind(pid)
        .fetch_one(killer)
        .await?
        > 0
    {
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Counts new connections. If `on` is 1, the server terminates each of them at once.
struct Terminator {
    opened: Arc<AtomicU32>,
    on: Arc<AtomicU32>,
    killer: PgPool,
}

impl Terminator {
    /// Returns options whose logins take this many milliseconds longer.
    fn options(&self, options: PgPoolOptions, millis: u64) -> PgPoolOptions {
        let (opened, on) = (Arc::clone(&self.opened), Arc::clone(&self.on));
        let killer = self.killer.clone();
        options.after_connect(move |connection, _| {
            let (killer, opened, on) = (killer.clone(), Arc::clone(&opened), Arc::clone(&on));
            Box::pin(async move {
                opened.fetch_add(1, ORDERING);
                if on.load(ORDERING) == 1 {
                    let pid: i32 = connection
                        .fetch_one("SELECT pg_backend_pid()")
                        .await?
                        .try_get(0)?;
                    terminate(&killer, pid).await?;
                    sleep(Duration::from_millis(millis)).await;
                }
                Ok(())
            })
        })
    }

    fn new(fixture: &Fixture) -> Self {
        let connect = fixture
            .connect_options()
            .username("app")
            .password("password-1");
        let killer = PgPoolOptions::new().max_connections(4);
        Self {
            opened: Arc::default(),
            on: Arc::default(),
            killer: killer.connect_lazy_with(connect),
        }
    }

    /// Queries from `calls` callers at once, and asserts that each logs in once at most and gets
    /// the server's error.
    async fn assert_one_login_per_call(&self, db: &Handle<PgPools>, calls: u32) {
        self.on.store(1, ORDERING);
        self.opened.store(0, ORDERING);
        let results = join_all((0..calls).map(|_| query(db))).await;
        let opened = self.opened.load(ORDERING);
        assert!(opened <= calls + 1, "{opened} logins for {calls} calls");
        for error in results.into_iter().filter_map(Result::err) {
            assert!(
                error.to_string().contains("terminating connection"),
                "the cause: {error}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_that_is_terminated_costs_one_login_per_call_and_returns_its_error() {
    let fixture = Fixture::new().await;
    let terminator = Terminator::new(&fixture);
    // There is room for all, because a call that queues in a full pool cannot distinguish new
    // connections.
    let options = fixture
        .pool_options(64)
        .acquire_timeout(Duration::from_secs(30));
    let db = fixture.pool_with(terminator.options(options, 0)).await;
    for calls in [1, 1, 1, 64] {
        terminator.assert_one_login_per_call(&db, calls).await;
    }
}

/// With this option, sqlx reports which connections were just opened.
#[tokio::test(flavor = "multi_thread")]
async fn with_checks_after_idle_a_queued_call_costs_one_login_to_a_terminated_connection() {
    let fixture = Fixture::new().await;
    let terminator = Terminator::new(&fixture);
    let options = fixture
        .pool_options(4)
        .acquire_timeout(Duration::from_secs(30));
    // Longer than a caller keeps the others from the pool.
    let pools = fixture.pools_with(terminator.options(options, 150));
    let db = fixture
        .pool_from(pools.with_check_after_idle(Duration::from_secs(60)))
        .await;
    terminator.assert_one_login_per_call(&db, 32).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_returned_connection_serves_a_waiting_caller_during_a_drain() {
    let fixture = Fixture::new().await;
    let millis = Arc::new(AtomicU64::new(0));
    let options = slow(
        fixture
            .pool_options(4)
            .acquire_timeout(Duration::from_secs(8)),
        &millis,
    );
    let db = fixture.pool_with(options).await;
    let old = db.acquire().await.expect("a connection");
    fixture.rotate_announced().await;
    until_generation(&db, 2).await;
    let first = db.acquire().await.expect("a connection");
    millis.store(4_500, ORDERING);
    let caller = tokio::spawn({
        let db = db.clone();
        async move {
            let began = Instant::now();
            drop(db.acquire().await.expect("a connection"));
            began.elapsed()
        }
    });
    sleep(Duration::from_millis(200)).await;
    drop(first);
    let wait = caller.await.expect("no panic");
    drop(old);
    assert!(wait < Duration::from_secs(2), "{wait:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_after_connect_hook_has_as_long_as_the_verify_deadline() {
    let builder = Supervisor::builder().with_verify_deadline(Duration::from_secs(10));
    let fixture = Fixture::with_builder(builder).await;
    let credentials = fixture.add_provider().await;
    let millis = Arc::new(AtomicU64::new(0));
    let policies = [HandoverPolicy::AlwaysInPlace, HandoverPolicy::AlwaysReplace];
    let mut pools = Vec::new();
    for policy in policies {
        let options = slow(fixture.pool_options(4), &millis);
        let factory = fixture.pools_with(options).with_handover_policy(policy);
        let name = format!("{policy:?}");
        pools.push(fixture.add_pool(&name, &credentials, factory).await);
    }
    // More than the 4 s that the default deadline leaves.
    millis.store(4_500, ORDERING);
    fixture.rotate_announced().await;
    let handed_over = join_all(pools.iter().map(|db| until_generation(db, 2)));
    timeout(Duration::from_secs(9), handed_over)
        .await
        .expect("the first attempt succeeds");
}
