//! Throughput while old connections are in use, compared with a plain pool of the remaining size;
//! CPU time of thousands of waiting callers.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use claviger::{Handle, PgPools};
use claviger_fixtures::{Figures, Fixture, backend_down, median, until_generation, until_rejected};
use sqlx::PgPool;
use tokio::time::{Instant, sleep};

const CALLERS: usize = 64;
const CONNECTIONS: u32 = 10;
const BUSY: u32 = 2;
const PAIRS: usize = 3;
const ROUND: Duration = Duration::from_millis(1_000);
const WAITING: usize = 10_000;

/// Returns how often the callers complete the work in a second.
pub(crate) async fn throughput<F: Future<Output = ()> + Send>(
    callers: usize,
    round: Duration,
    work: impl Fn() -> F + Clone + Send + Sync + 'static,
) -> f64 {
    let (stop, count) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let callers: Vec<_> = (0..callers)
        .map(|_| {
            let (work, stop, count) = (work.clone(), Arc::clone(&stop), Arc::clone(&count));
            tokio::spawn(async move {
                while !stop.load(Ordering::Acquire) {
                    work().await;
                    count.fetch_add(1, Ordering::AcqRel);
                }
            })
        })
        .collect();
    let began = Instant::now();
    sleep(round).await;
    let rate = count.load(Ordering::Acquire) as f64 / began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Release);
    for caller in callers {
        caller.await.expect("no panic");
    }
    rate
}

/// Measures the same work through the handle and through the plain pool, alternately.
macro_rules! compare {
    ($figures:expr, $title:expr, $goal:expr, $db:expr, $plain:expr, |$pool:ident| $work:expr) => {{
        let mut ratios = Vec::new();
        for _ in 0..PAIRS {
            let handle = throughput(CALLERS, ROUND, {
                let db: Handle<PgPools> = $db.clone();
                move || {
                    let $pool = db.clone();
                    async move { $work }
                }
            })
            .await;
            let plain = throughput(CALLERS, ROUND, {
                let plain: PgPool = $plain.clone();
                move || {
                    let $pool = plain.clone();
                    async move { $work }
                }
            })
            .await;
            ratios.push(handle / plain);
        }
        $figures.at_least($title, median(&mut ratios), $goal);
    }};
}

/// Returns the seconds of processor time that this process has used.
pub(crate) fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .expect("a line")
        .split_whitespace()
        .collect();
    let ticks: f64 =
        fields[11].parse::<f64>().expect("a number") + fields[12].parse::<f64>().expect("a number");
    ticks / 100.0
}

pub(crate) async fn measure(figures: &mut Figures) {
    let fixture = Fixture::new().await;
    let options = fixture
        .pool_options(CONNECTIONS)
        .acquire_timeout(Duration::from_secs(30));
    let db = fixture.pool_with(options).await;
    let mut busy = Vec::new();
    for _ in 0..BUSY {
        busy.push(db.acquire().await.expect("a connection"));
    }
    let password = fixture.rotate_announced().await;
    until_generation(&db, 2).await;
    let plain = fixture.plain_pool(&password, fixture.pool_options(CONNECTIONS - BUSY));
    compare!(
        figures,
        "2 of 10 old connections busy, statements: ours / a pool of 8",
        0.8,
        db,
        plain,
        |pool| {
            sqlx::query("SELECT 1")
                .execute(&pool)
                .await
                .expect("the query succeeds");
        }
    );
    compare!(
        figures,
        "2 of 10 old connections busy, begin and commit: ours / a pool of 8",
        0.5,
        db,
        plain,
        |pool| {
            let mut transaction = pool.begin().await.expect("a transaction");
            sqlx::query("SELECT 1")
                .execute(&mut *transaction)
                .await
                .expect("the query succeeds");
            transaction.commit().await.expect("the transaction commits");
        }
    );
    compare!(
        figures,
        "2 of 10 old connections busy, acquire and a statement: ours / a pool of 8",
        0.15,
        db,
        plain,
        |pool| {
            let mut connection = pool.acquire().await.expect("a connection");
            sqlx::query("SELECT 1")
                .execute(&mut *connection)
                .await
                .expect("the query succeeds");
        }
    );
    drop(busy);
    measure_waiting(figures).await;
}

/// Measures waiting callers. The backend is down, the credentials are rejected, and the one open
/// connection is in use.
async fn measure_waiting(figures: &mut Figures) {
    let fixture = Fixture::new().await;
    let options = fixture
        .pool_options(CONNECTIONS)
        .acquire_timeout(Duration::from_secs(25));
    let db = fixture.pool_with(options).await;
    let busy = db.acquire().await.expect("a connection");
    fixture.provider.fail_next(1_000_000, backend_down());
    fixture.set_password("no lease has this one").await;
    let callers: Vec<_> = (0..WAITING)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move { sqlx::query("SELECT 1").execute(&db).await.is_ok() })
        })
        .collect();
    until_rejected(&db).await;
    sleep(Duration::from_secs(3)).await;
    let (began, before) = (Instant::now(), processor_time());
    sleep(Duration::from_secs(15)).await;
    let share = (processor_time() - before) / began.elapsed().as_secs_f64();
    figures.at_most("10,000 waiting callers: share of a core", share, 0.02);
    callers.iter().for_each(tokio::task::JoinHandle::abort);
    drop(busy);
}
