//! Calls whose login is slow: they use returned connections, keep no permit from others, and return
//! the current error.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use claviger::Handle;
use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::lease::OldConnections;
use claviger::pool::CheckPolicy;
use claviger_fixtures::{Scripted, backend_down};
use claviger_testkit::{ScriptedConnection, ScriptedPools, ScriptedProvider};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

fn full() -> ConnectError {
    ConnectError::new(ConnectErrorKind::Overloaded, "too many connections")
}

/// Returns a pool of four connections, of which one is open and busy.
async fn with_a_busy_connection() -> (Scripted, ScriptedConnection) {
    let scripted = Scripted::with(ScriptedProvider::new()).await;
    let busy = scripted.pool.get().await.expect("a connection");
    (scripted, busy)
}

/// Makes the pool notice that the server is full.
async fn note_full_server(scripted: &Scripted) {
    scripted.database.fail_logins(Some(full()));
    let call = timeout(SECOND / 10, scripted.pool.get()).await;
    assert!(call.is_err(), "the call waits for room");
    scripted.database.fail_logins(None);
}

/// Starts callers that use a connection for a moment and report how long they waited.
fn start_callers(pool: &Handle<ScriptedPools>, callers: usize) -> Vec<JoinHandle<Duration>> {
    let call = |_| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            let connection = pool.get().await.expect("a connection");
            let waited = began.elapsed();
            sleep(SECOND / 100).await;
            drop(connection);
            waited
        })
    };
    (0..callers).map(call).collect()
}

#[tokio::test(start_paused = true)]
async fn a_login_that_began_while_others_queued_gives_way_to_a_returned_connection() {
    let (scripted, busy) = with_a_busy_connection().await;
    note_full_server(&scripted).await;
    scripted.database.delay_logins(20 * SECOND);
    // The server counts as full for some 5 s; then the queue ends.
    let callers = start_callers(&scripted.pool, 9);
    sleep(8 * SECOND).await;
    drop(busy);
    for caller in callers {
        let waited = caller.await.expect("no panic");
        assert!(waited < 10 * SECOND, "a call waited for {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_polled_keeps_no_permit_from_others() {
    let (scripted, _busy) = with_a_busy_connection().await;
    note_full_server(&scripted).await;
    scripted.database.delay_logins(SECOND * 3 / 10);
    sleep(SECOND * 3 / 10).await;
    let mut unpolled = Box::pin(scripted.pool.get());
    for _ in 0..3 {
        assert!(futures_util::poll!(unpolled.as_mut()).is_pending());
    }
    let began = Instant::now();
    drop(scripted.pool.get().await.expect("a connection"));
    let waited = began.elapsed();
    assert!(waited < SECOND, "the call waited for {waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_for_new_credentials_returns_the_error_of_a_full_server() {
    let (scripted, _busy) = with_a_busy_connection().await;
    scripted.provider.fail_next(1_000, backend_down());
    scripted.database.accept_only(["another password"]);
    let call = |_| {
        let pool = scripted.pool.clone();
        tokio::spawn(async move { pool.get().await })
    };
    let callers: Vec<_> = (0..9).map(call).collect();
    // The acquire timeout is 30 s.
    sleep(25 * SECOND).await;
    scripted.database.accept_only([scripted.provider.rotate()]);
    scripted.provider.recover();
    // The last call before the publication.
    let database = scripted.database.clone();
    scripted.database.on_call(move |method| {
        if method == "server" {
            database.fail_logins(Some(full()));
        }
    });
    let rotated = scripted.lab.supervisor.rotate_now("login").await;
    drop(rotated.expect("a new lease"));
    let mut outcomes = Vec::new();
    for caller in callers {
        outcomes.push(caller.await.expect("no panic"));
    }
    let errors: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().err())
        .map(ToString::to_string)
        .collect();
    let of_full_server = errors
        .iter()
        .filter(|error| error.contains("too many connections"));
    assert!(errors.len() >= 7, "the hazard: {errors:?}");
    // The first caller's own login was rejected.
    assert!(of_full_server.count() >= errors.len() - 1, "{errors:?}");
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_returned_to_a_call_that_planned_a_login_does_not_fail_it() {
    let database = ScriptedPools::new(4).with_checks(CheckPolicy::Always);
    let scripted = Scripted::with_database(ScriptedProvider::new(), database).await;
    let busy = scripted.pool.get().await.expect("a connection");
    scripted.database.delay_logins(SECOND);
    let before = scripted.database.logins().len();
    let mut call = Box::pin(scripted.pool.get());
    assert!(
        futures_util::poll!(call.as_mut()).is_pending(),
        "it plans a login"
    );
    let broken = ConnectError::new(ConnectErrorKind::Unreachable, "broken pipe");
    scripted.database.fail_next_checks(1, broken);
    drop(busy);
    call.await.expect("a new connection after the broken one");
    assert_eq!(scripted.database.logins().len() - before, 1);
}

/// The backend may end connections before it drops their role. The next login then shows which one
/// it is.
#[tokio::test(start_paused = true)]
async fn a_new_connection_that_ends_with_its_role_costs_another_login() {
    for (old_connections, succeeds) in [
        (OldConnections::EndWithLease, true),
        (OldConnections::Drain, false),
    ] {
        let database = ScriptedPools::new(4).with_checks(CheckPolicy::Always);
        let provider = ScriptedProvider::new()
            .with_old_connections(old_connections)
            .with_lifetime(3_600 * SECOND);
        let scripted = Scripted::with_database(provider, database).await;
        let _busy = scripted.pool.get().await.expect("a connection");
        scripted.database.delay_logins(SECOND);
        let before = scripted.database.logins().len();
        let ended = ConnectError::new(ConnectErrorKind::Unreachable, "terminated");
        scripted.database.fail_next_checks(1, ended);
        let call = scripted.pool.get().await;
        assert_eq!(call.is_ok(), succeeds, "{old_connections:?}");
        let logins = scripted.database.logins().len() - before;
        assert_eq!(logins, if succeeds { 2 } else { 1 });
    }
}

/// A cause whose drop reads the pool's idle connections from another thread.
#[derive(Debug)]
struct Cause {
    pool: Handle<ScriptedPools>,
    blocked: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room")
    }
}

impl Error for Cause {}

impl Drop for Cause {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::AcqRel);
        let (done, waited) = mpsc::channel();
        let pool = self.pool.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .expect("a runtime");
            // The call enters the admission control at once.
            drop(runtime.block_on(async { timeout(SECOND / 20, pool.get()).await }));
            let _ = done.send(());
        });
        if waited.recv_timeout(2 * SECOND).is_err() {
            self.blocked.fetch_add(1, Ordering::AcqRel);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_of_a_full_server_is_dropped_without_a_lock() {
    let (scripted, _busy) = with_a_busy_connection().await;
    let (blocked, dropped) = (Arc::default(), Arc::default());
    for _ in 0..2 {
        let cause = Cause {
            pool: scripted.pool.clone(),
            blocked: Arc::clone(&blocked),
            dropped: Arc::clone(&dropped),
        };
        let error = full().with_source(cause);
        scripted.database.fail_logins(Some(error));
        let call = timeout(SECOND, scripted.pool.get()).await;
        assert!(call.is_err(), "the call waits for room");
        scripted.database.fail_logins(Some(full()));
    }
    // The last state of the server replaces it.
    drop(timeout(2 * SECOND, scripted.pool.get()).await);
    assert!(dropped.load(Ordering::Acquire) > 0, "the hazard");
    assert_eq!(blocked.load(Ordering::Acquire), 0);
}
