//! A caller's login, which continues when its caller is cancelled.
//!
//! MySQL counts an aborted login against the host, and the login's result would be lost. Without a
//! caller, the connection is returned to the pool, and a rejection is reported to the control
//! plane.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use tokio::runtime::Handle as Runtime;
use tokio::sync::futures::Notified;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::admission::{HEAD_START, Permit};
use super::call::{PoolResult, poll_once};
use super::checks::Taken;
use super::connection_guard::give_back;
use super::explain::note_login_error;
use super::factory::{AcquireError, PoolFactory};
use super::generation::{Generation, Shared};
use super::login_limits::{
    LoginLimits, LoginWithoutCaller, Permits, with_head_start, without_caller_for_long,
};
use super::returned::{Backoff, take_next_returned, take_returned, until_idle_connection};

type Acquiring<F> = Pin<Box<dyn Future<Output = (FromPool<F>, Option<Permits>)> + Send>>;
type TakenResult<F> = Result<Taken<<F as PoolFactory>::Connection>, <F as PoolFactory>::Error>;

/// What a call to the pool returned.
struct FromPool<F: PoolFactory> {
    result: TakenResult<F>,
    /// Whether the pool had room and no idle connection when the call began.
    would_open: bool,
    /// Whether the call waited. An idle connection is returned without a wait.
    waited: bool,
}

/// Waits in the pool for a connection, which may take a login. Returns `None` when the generation
/// is over or the limit has passed.
pub(super) async fn connect<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
    generation: &Arc<Generation<F::Pool>>,
    mut over: Pin<&mut Notified<'_>>,
    limit: Instant,
) -> Option<PoolResult<F>> {
    let permits = tokio::select! {
        biased;
        // First, because the caller that left its place may have been rejected.
        () = over.as_mut() => {
            shared.note_moved();
            return None;
        }
        permits = wait_for_permits(shared, generation) => permits,
        () = sleep_until(limit) => return None,
    };
    // Logins may be limited by now, the server full, or the lease expired.
    if !shared.admission.is_open() || generation.is_expired(&shared.clock) {
        return None;
    }
    log_in(shared, generation, permits, None, over, limit).await
}

/// Opens a connection with a permit of the admission control. Returns `None` when the caller should
/// try again.
pub(super) async fn open<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
    generation: &Arc<Generation<F::Pool>>,
    permit: Permit<F::Pool>,
    over: Pin<&mut Notified<'_>>,
    limit: Instant,
) -> Option<PoolResult<F>> {
    log_in(shared, generation, (None, None), Some(permit), over, limit).await
}

/// Acquires a connection from the pool, which may take a login. If another connection is returned
/// first, uses that one; the login then continues without its caller.
async fn log_in<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
    generation: &Arc<Generation<F::Pool>>,
    permits: Permits,
    admitted: Option<Permit<F::Pool>>,
    over: Pin<&mut Notified<'_>>,
    limit: Instant,
) -> Option<PoolResult<F>> {
    let opened = would_open_connection(shared, generation);
    let login_limits = &generation.lifecycle.login_limits;
    let head_start = opened.then(|| login_limits.head_start(shared.clock.mono()));
    let acquiring = call_pool(Arc::clone(shared), Arc::clone(generation));
    let has_result = opened.then(Arc::<AtomicBool>::default);
    let acquire = PoolAcquire {
        acquiring: Box::pin(with_head_start(acquiring, permits, head_start)),
        admitted,
        shared: Arc::clone(shared),
        generation: Arc::clone(generation),
        has_result: has_result.clone(),
    };
    let mut got = std::pin::pin!(async move {
        if opened {
            acquire.run_in_task().await
        } else {
            Queued(Some(acquire)).wait().await
        }
    });
    let mut idle = std::pin::pin!(async {
        if opened {
            take_returned(shared, generation).await
        } else if has_room(shared, generation) {
            take_next_returned(shared, generation).await
        } else {
            std::future::pending().await
        }
    });
    tokio::select! {
        biased;
        () = over => {
            // The rejection of this login may have ended the generation.
            if has_result.is_some_and(|set| set.load(Ordering::Acquire)) {
                return got.await;
            }
            shared.note_moved();
            None
        }
        got = got.as_mut() => got,
        result = idle.as_mut() => Some(PoolResult {
            result: note_result(shared, generation, result, false),
            opened: false,
        }),
        () = sleep_until(limit) => None,
    }
}

/// Acquires a connection from the pool. One may have been returned since the call was planned.
async fn call_pool<F: PoolFactory>(
    shared: Arc<Shared<F>>,
    generation: Arc<Generation<F::Pool>>,
) -> FromPool<F> {
    let would_open = would_open_connection(&shared, &generation);
    let mut getting = std::pin::pin!(shared.factory.get(&generation.pool));
    let (result, waited) = match poll_once(getting.as_mut()).await {
        Poll::Ready(result) => (result, false),
        Poll::Pending => (getting.await, true),
    };
    FromPool {
        result,
        would_open,
        waited,
    }
}

/// Returns whether a call to the pool opens a connection: it has room, and none is idle.
fn would_open_connection<F: PoolFactory>(
    shared: &Shared<F>,
    generation: &Generation<F::Pool>,
) -> bool {
    shared.factory.idle(&generation.pool) == 0 && has_room(shared, generation)
}

fn has_room<F: PoolFactory>(shared: &Shared<F>, generation: &Generation<F::Pool>) -> bool {
    shared.factory.connections(&generation.pool) < shared.settings.max_connections
}

/// Resolves with the permits to enter the pool: none when a connection is idle.
async fn wait_for_permits<F: PoolFactory>(
    shared: &Shared<F>,
    generation: &Generation<F::Pool>,
) -> Permits {
    let is_idle = || shared.factory.idle(&generation.pool) > 0;
    if is_idle() {
        return (None, None);
    }
    wait_for_login_without_caller(shared, generation).await;
    if is_idle() {
        return (None, None);
    }
    let permit = generation.lifecycle.login_limits.permit().await;
    if !would_open_connection(shared, generation) {
        return (permit, None);
    }
    let ahead = tokio::select! {
        ahead = generation.lifecycle.login_limits.go_ahead(|| shared.clock.mono()) => ahead,
        () = until_idle_connection(shared, &generation.pool) => None,
    };
    (permit, ahead)
}

/// Waits for the connection of a login without a caller, unless each such login has a waiting call
/// already. The wait ends after [`HEAD_START`]: the call then begins its own login.
async fn wait_for_login_without_caller<F: PoolFactory>(
    shared: &Shared<F>,
    generation: &Generation<F::Pool>,
) {
    let Some(mut claim) = generation.lifecycle.login_limits.claim() else {
        return;
    };
    let end = Instant::now() + HEAD_START;
    let mut backoff = Backoff::default();
    while would_open_connection(shared, generation) && claim.is_valid() && Instant::now() < end {
        sleep_until(backoff.next()).await;
    }
}

/// Notes that a login worked. Logins that wait for it begin, and other pools of the user are
/// notified.
pub(super) fn note_worked<F: PoolFactory>(
    shared: &Shared<F>,
    login_limits: &LoginLimits,
    generation: u64,
) {
    let now = shared.clock.mono();
    login_limits.note_success(now);
    if let Some(control_plane) = shared.control_plane() {
        control_plane.login_worked(generation);
    }
    shared.admission.note_opened(generation, now);
}

/// Notes the result of an acquire: an error, or that the login for which it `opened` a connection
/// worked. Returns it for the caller.
fn note_result<F: PoolFactory>(
    shared: &Shared<F>,
    generation: &Generation<F::Pool>,
    result: TakenResult<F>,
    opened: bool,
) -> TakenResult<F> {
    if opened && result.is_ok() {
        note_worked(
            shared,
            &generation.lifecycle.login_limits,
            generation.number,
        );
    }
    result.map_err(|error| note_login_error(shared, generation.number, error))
}

/// An acquire from the pool.
struct PoolAcquire<F: PoolFactory> {
    acquiring: Acquiring<F>,
    admitted: Option<Permit<F::Pool>>,
    shared: Arc<Shared<F>>,
    generation: Arc<Generation<F::Pool>>,
    /// Set before the result of a planned login is noted, which may end the generation.
    has_result: Option<Arc<AtomicBool>>,
}

impl<F: PoolFactory> PoolAcquire<F> {
    /// Runs the login in a task of its own, because its permits delay other callers, and its caller
    /// may leave or be slow. Returns `None` if the runtime ends.
    async fn run_in_task(self) -> Option<PoolResult<F>> {
        let (caller, present) = oneshot::channel();
        let mut login = CallersLogin {
            login_limits: Arc::clone(&self.generation.lifecycle.login_limits),
            without_caller: Arc::default(),
            has_ended: false,
            _present: present,
        };
        let without_caller = Arc::clone(&login.without_caller);
        let task = tokio::spawn(async move {
            let result = self.run(caller).await;
            drop(without_caller);
            result
        });
        let ended = task.await;
        login.has_ended = true;
        match ended {
            Ok(result) => result,
            // A panic of the pool continues in its caller.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => None,
        }
    }

    /// Runs the acquire to its end. Without its caller, it runs for a limited time, and not beyond
    /// the lease's expiry. The connection is then returned to the pool.
    async fn run(mut self, mut caller: oneshot::Sender<()>) -> Option<PoolResult<F>> {
        let (from_pool, permits) = tokio::select! {
            biased;
            got = self.acquiring.as_mut() => got,
            () = without_caller_for_long(&mut caller, self.generation.expiry.mono()) => {
                let timed_out = FromPool {
                    result: Err(self.shared.factory.error(AcquireError::TimedOut)),
                    would_open: false,
                    waited: true,
                };
                (timed_out, None)
            }
        };
        let got = self.note(from_pool);
        // Before the connection is returned, because that may be slow.
        drop((permits, self.admitted.take()));
        if caller.is_closed() {
            if let Ok(taken) = got.result {
                give_back(&self.shared, taken.connection).await;
            }
            return None;
        }
        Some(got)
    }

    fn note(&self, from_pool: FromPool<F>) -> PoolResult<F> {
        if let Some(has_result) = &self.has_result {
            has_result.store(true, Ordering::Release);
        }
        PoolResult {
            result: note_result(
                &self.shared,
                &self.generation,
                from_pool.result,
                from_pool.would_open,
            ),
            opened: from_pool.would_open && from_pool.waited,
        }
    }
}

/// The caller's side of a login that runs in a task. If it is dropped before the login has ended,
/// the login counts as one without a caller.
struct CallersLogin {
    login_limits: Arc<LoginLimits>,
    /// Shared with the task, so that it lasts until the login has ended.
    without_caller: Arc<OnceLock<LoginWithoutCaller>>,
    has_ended: bool,
    _present: oneshot::Receiver<()>,
}

impl Drop for CallersLogin {
    fn drop(&mut self) {
        if !self.has_ended {
            let _ = self
                .without_caller
                .set(self.login_limits.note_without_caller());
        }
    }
}

/// An acquire in the caller's own future, because a full pool has a queue. It may have become a
/// login. If the server counts aborted logins, it therefore continues without its caller.
struct Queued<F: PoolFactory>(Option<PoolAcquire<F>>);

impl<F: PoolFactory> Queued<F> {
    async fn wait(mut self) -> Option<PoolResult<F>> {
        let acquire = self.0.as_mut()?;
        let (from_pool, permits) = acquire.acquiring.as_mut().await;
        let acquire = self.0.take()?;
        // Noted before the next login gets a permit.
        let got = acquire.note(from_pool);
        drop(permits);
        Some(got)
    }
}

impl<F: PoolFactory> Drop for Queued<F> {
    fn drop(&mut self) {
        let acquire = self.0.take();
        let continues = |acquire: &PoolAcquire<F>| acquire.shared.settings.finishes_logins;
        if let Some(acquire) = acquire.filter(continues)
            // It cannot be polled again after a panic.
            && !std::thread::panicking()
            // Without a runtime, it cannot continue.
            && let Ok(runtime) = Runtime::try_current()
        {
            let (caller, _) = oneshot::channel();
            runtime.spawn(acquire.run(caller));
        }
    }
}
