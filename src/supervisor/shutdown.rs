//! Shutdown in order, and the removal of one pool or provider.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::Supervisor;
use super::inner::{Ending, Inner};
use super::node::{PoolNode, ProviderNode};
use super::runtime::{self, GRACE, ThreadDeadline};
use crate::error::Error;
use crate::report::{Abandoned, ShutdownReport};

/// Longest bound, so that clocks can express its end.
const MAX_DURATION: Duration = Duration::from_secs(24 * 3_600);

/// Longest wait for each kind of task of a runtime that is gone.
const LOST_RUNTIME_WAIT: Duration = Duration::from_secs(1);

/// Returns the report of a shutdown with an unknown outcome.
fn unknown_report() -> ShutdownReport {
    ShutdownReport {
        clean: false,
        abandoned: Vec::new(),
        unfinished: Vec::new(),
        unreleased: Vec::new(),
        took: Duration::ZERO,
    }
}

/// Returns a report that lists everything as left behind, by its current status.
fn report_by_status(inner: &Inner, took: Duration) -> ShutdownReport {
    let mut report = ShutdownReport {
        took,
        ..unknown_report()
    };
    let providers = inner.lock().providers();
    for provider in providers {
        let status = provider.slot.status();
        let current = usize::from(status.revision.is_some());
        let leases = status.unreleased + status.kept + current;
        if leases > 0 {
            report.unreleased.push((Arc::clone(&status.name), leases));
        }
        report.unfinished.push(status.name);
    }
    let pools = inner.lock().pools_and_leaving();
    for pool in pools {
        let status = pool.slot.status();
        let current = Abandoned {
            pool: Arc::clone(&status.name),
            generation: status.generation,
            connections: status.connections,
        };
        let left = draining_connections(&pool).chain([current]);
        report
            .abandoned
            .extend(left.filter(|one| one.connections > 0));
        report.unfinished.push(status.name);
    }
    report
}

/// Returns the generations of the pool that drain.
fn draining_connections(pool: &PoolNode) -> impl Iterator<Item = Abandoned> {
    let generations = pool.slot.draining_connections().into_iter();
    generations.map(|(generation, connections)| Abandoned {
        pool: Arc::clone(&pool.name),
        generation,
        connections,
    })
}

/// Belongs to the task of a shutdown. If its runtime drops the task before the end, waiting callers
/// are notified.
struct ShutdownGuard(Arc<Inner>);

impl Drop for ShutdownGuard {
    fn drop(&mut self) {
        self.0.change_ending(&Ending::Pending, Ending::Lost);
    }
}

impl Supervisor {
    /// Removes a pool: its callers get `PoolClosed`, its connections are drained. Returns when they
    /// are gone or the drain deadline (60 s) has passed.
    ///
    /// # Errors
    /// When there is no such pool. When the supervisor's runtime is gone and the call is made
    /// outside of one.
    ///
    /// # Cancel safety
    /// The removal continues without the future, on the supervisor's runtime.
    pub async fn remove_pool(&self, name: &str) -> Result<(), Error> {
        let inner = &self.inner;
        let pool = inner.lock().take_pool(name)?;
        let work = || end_pool(Arc::clone(inner), Arc::clone(&pool));
        runtime::run_on_runtime(inner, work, inner.context.settings.drain).await
    }

    /// Removes a provider: its leases are released, its background work ends.
    ///
    /// # Errors
    /// When there is no such provider, or it still has pools; the message names them. A removed
    /// pool counts until its last connection is gone. When the supervisor's runtime is gone and the
    /// call is made outside of one.
    ///
    /// # Cancel safety
    /// The removal continues without the future, on the supervisor's runtime.
    pub async fn remove_provider(&self, name: &str) -> Result<(), Error> {
        let inner = &self.inner;
        let provider = inner.lock().take_provider(name)?;
        let work = || end_provider(Arc::clone(inner), Arc::clone(&provider));
        runtime::run_on_runtime(inner, work, inner.context.settings.fetch_deadline).await
    }

    /// Ends everything in order, within `bound`: nothing new starts → running work ends →
    /// connections drain → leases are released → actors stop. A tenth of the bound is kept for
    /// releases, which happen even where a drain was abandoned. Further calls return the same
    /// report.
    ///
    /// Connections in use may finish. Calls that wait for a connection get `PoolClosed` at once, so
    /// let a service's requests end before.
    ///
    /// The work is done on the runtime on which the supervisor was started. If that runtime is
    /// gone, the caller's is used: leases are released, and tasks of the old runtime are not waited
    /// for. If it is not driven, the call returns at most two seconds after the bound. The report
    /// then lists everything as left behind.
    ///
    /// # Cancel safety
    /// The shutdown continues without the future.
    pub async fn shutdown(&self, bound: Duration) -> ShutdownReport {
        let inner = &self.inner;
        let bound = bound.min(MAX_DURATION);
        let began = inner.context.clock.mono();
        let mut deadline = ThreadDeadline::after(bound + GRACE);
        let mut ending = inner.ending.subscribe();
        if inner.lock().close() {
            spawn(inner, &inner.runtime, bound, false);
        }
        let ended = async {
            loop {
                let now = ending
                    .wait_for(|ending| *ending != Ending::Pending)
                    .await
                    .map(|ending| ending.clone());
                match (now, Handle::try_current()) {
                    (Ok(Ending::Ended(report)), _) => return Some(report),
                    // One caller continues it, on its own runtime.
                    (Ok(Ending::Lost), Ok(here)) => {
                        if inner.change_ending(&Ending::Lost, Ending::Pending) {
                            spawn(inner, &here, bound, true);
                        }
                    }
                    // No runtime can run it. (The sender exists: it is in `inner`.)
                    _ => return None,
                }
            }
        };
        let report = tokio::select! {
            biased;
            report = ended => report,
            () = deadline.passed() => None,
        };
        let took = inner.context.clock.mono().saturating_duration_since(began);
        report.unwrap_or_else(|| report_by_status(inner, took))
    }
}

fn spawn(inner: &Arc<Inner>, runtime: &Handle, bound: Duration, runtime_lost: bool) {
    let guard = ShutdownGuard(Arc::clone(inner));
    runtime.spawn(async move {
        let inner = Arc::clone(&guard.0);
        let work = tokio::spawn(shut_down(Arc::clone(&inner), bound, runtime_lost));
        let report = match work.await {
            Ok(report) => report,
            // A panic, such as of a user's pool factory, must not leave callers waiting.
            Err(error) if error.is_panic() => unknown_report(),
            Err(_) => return,
        };
        inner.ending.send_replace(Ending::Ended(report));
        inner.context.events.close();
    });
}

/// Ends everything in order. `runtime_lost`: tasks of the supervisor's runtime will not end, and
/// are waited for briefly.
async fn shut_down(inner: Arc<Inner>, bound: Duration, runtime_lost: bool) -> ShutdownReport {
    let began = inner.context.clock.mono();
    let deadline = began + bound;
    // A tenth is kept for releases.
    let mut drain = bound.mul_f64(0.9);
    if runtime_lost {
        drain = drain.min(LOST_RUNTIME_WAIT);
    }
    let drained_by = began + drain;
    // The registry is closed, so that both lists stay complete.
    let providers = inner.lock().providers();
    let pools = inner.lock().pools_and_leaving();
    for provider in &providers {
        Arc::clone(&provider.slot).stop_fetching();
    }
    // Callers get `PoolClosed` from here on; running work may end.
    for pool in &pools {
        Arc::clone(&pool.slot).close();
    }
    let running_work = || {
        let providers = providers.iter();
        let fetches = providers.map(|provider| (&provider.name, provider.slot.until_idle()));
        fetches.chain(
            pools
                .iter()
                .map(|pool| (&pool.name, pool.slot.until_idle())),
        )
    };
    let mut unfinished = Vec::new();
    for (name, idle) in running_work() {
        if in_time(drained_by, idle).await.is_none() {
            unfinished.push(Arc::clone(name));
        }
    }
    let mut abandoned = Vec::new();
    for pool in &pools {
        if in_time(drained_by, Arc::clone(&pool.slot).until_drained())
            .await
            .is_none()
        {
            abandoned.extend(draining_connections(pool));
        }
    }
    if !unfinished.is_empty() || !abandoned.is_empty() {
        inner.context.shutdown_signal.send();
        // Running work ends at the signal, and closes its connections.
        for (_, idle) in running_work() {
            let _ = in_time(deadline, idle).await;
        }
    }
    let closing: Vec<_> = providers
        .iter()
        .map(|provider| {
            let closing = Arc::clone(provider);
            let task = tokio::spawn(async move { closing.close(deadline).await });
            (Arc::clone(&provider.name), task)
        })
        .collect();
    let mut unreleased = Vec::new();
    for (name, closed) in closing {
        let left = closed.await.unwrap_or(1);
        if left > 0 {
            unreleased.push((name, left));
        }
    }
    for pool in &pools {
        pool.stop().await;
    }
    if let Some(root) = &inner.root {
        root.stop().await;
    }
    let report = ShutdownReport {
        clean: abandoned.is_empty() && unfinished.is_empty() && unreleased.is_empty(),
        abandoned,
        unfinished,
        unreleased,
        took: inner.context.clock.mono().saturating_duration_since(began),
    };
    tracing::info!(clean = report.clean, took = ?report.took, "supervisor shut down");
    report
}

/// Returns the outcome, or `None` if the deadline passes first.
async fn in_time<T>(deadline: Instant, outcome: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout_at(deadline.into(), outcome).await.ok()
}

/// Returns when it has drained, or when the drain deadline has passed; then its actor continues
/// until the last connection has returned.
async fn end_pool(inner: Arc<Inner>, pool: Arc<PoolNode>) {
    Arc::clone(&pool.slot).close();
    let drain_deadline = inner.context.clock.mono() + inner.context.settings.drain;
    let rest = tokio::spawn(async move {
        pool.slot.until_idle().await;
        Arc::clone(&pool.slot).until_drained().await;
        pool.stop().await;
        inner.lock().forget_drained_pool(&pool);
    });
    let _ = in_time(drain_deadline, rest).await;
}

async fn end_provider(inner: Arc<Inner>, provider: Arc<ProviderNode>) {
    let deadline = inner.context.clock.mono() + inner.context.settings.fetch_deadline;
    Arc::clone(&provider.slot).stop_fetching();
    let _ = in_time(deadline, provider.slot.until_idle()).await;
    provider.close(deadline).await;
}

/// A registration that may have to be removed again.
pub(super) enum Registered {
    Provider(Arc<ProviderNode>),
    Pool(Arc<PoolNode>),
}

impl Registered {
    /// Unregisters it if it is still registered, and ends it in a task.
    pub(super) fn unregister(self, inner: &Arc<Inner>) -> Option<JoinHandle<()>> {
        let runtime = &inner.runtime;
        match self {
            Self::Provider(provider) if inner.lock().take_this_provider(&provider) => {
                Some(runtime.spawn(end_provider(Arc::clone(inner), provider)))
            }
            Self::Pool(pool) if inner.lock().take_this_pool(&pool) => {
                Some(runtime.spawn(end_pool(Arc::clone(inner), pool)))
            }
            Self::Provider(_) | Self::Pool(_) => None,
        }
    }
}
