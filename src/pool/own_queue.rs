//! Pools with a queue of their own: their logins wait here for a permit, and their callers wait in
//! the pool.

use std::error::Error as StdError;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::time::{Instant, sleep, sleep_until};

use super::call::{
    Call, PoolResult, TryOutcome, check_result, poll_once, retry_on_next_generation, until_expiry,
    wait_deadline,
};
use super::connect::note_worked;
use super::explain::verify_in_background;
use super::factory::PoolFactory;
use super::generation::{Generation, Phase, Shared};
use super::login_limits::LoginLimits;
use super::login_permits::{
    LoginOutcome, LoginPermit, LoginPermits, Permission, PermitSource, Validity, WAITS_FOR_PERMIT,
};
use super::queue::{Place, QueueOutcome, wait_at_front};
use crate::clock::Clock;
use crate::error::ConnectErrorKind;

/// Time for which a call waits for a permit before it queues in its pool again. A longer wait would
/// block the place that a returned connection needs.
const REQUEUE_AFTER: Duration = Duration::from_millis(10);

/// Returns the permits for the logins of a pool with these limits.
pub(super) fn login_permits<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
    login_limits: Arc<LoginLimits>,
) -> LoginPermits {
    LoginPermits::new(PoolLogins {
        shared: Arc::downgrade(shared),
        login_limits,
        clock: shared.clock.clone(),
    })
}

struct PoolLogins<F: PoolFactory> {
    /// Weak, because it owns the pool, which keeps this value.
    shared: Weak<Shared<F>>,
    login_limits: Arc<LoginLimits>,
    clock: Clock,
}

impl<F: PoolFactory> PermitSource for PoolLogins<F> {
    fn permit(&self) -> Permission<'_> {
        Box::pin(async move {
            let shared = self.shared.upgrade()?;
            let mut place = None;
            loop {
                // Created before the state is read, so that no notification is missed.
                let changed = std::pin::pin!(shared.next_notification());
                // Read before the generation, which is published first.
                let is_published = self.login_limits.is_published();
                let generation = shared.current();
                let mut over = std::pin::pin!(generation.lifecycle.ended());
                let phase = generation.lifecycle.phase();
                // Generations that share a pool share its limits.
                if generation.lifecycle.login_limits.id() != self.login_limits.id() {
                    if is_published {
                        return None;
                    }
                    if self.login_limits.handover_permit().await {
                        return Some(LoginPermit::default());
                    }
                    // The handover has ended. If it published the pool, the next permit is of the
                    // usual kind.
                    if !self.login_limits.is_published() {
                        return None;
                    }
                    continue;
                }
                if phase == Phase::Closed {
                    return None;
                }
                let is_over = phase != Phase::Serving || generation.is_expired(&shared.clock);
                if is_over || shared.admission.is_open() {
                    // The front of the queue is for callers now.
                    place = None;
                }
                let permit = if is_over {
                    changed.await;
                    None
                } else if shared.admission.is_open() {
                    self.open_permit(&shared, &generation, over.as_mut()).await
                } else {
                    let place = place.get_or_insert_with(|| Place::join(&shared.admission));
                    engaged_permit(&shared, &generation, over.as_mut(), place).await
                };
                if permit.is_some() && !generation.is_expired(&shared.clock) {
                    return permit;
                }
            }
        })
    }

    fn until_valid(&self) -> Validity<'_> {
        Box::pin(self.login_limits.until_valid(&self.clock))
    }

    fn note_login(&self, generation: u64, outcome: LoginOutcome<'_>) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        match outcome {
            LoginOutcome::Worked => note_worked(&shared, &self.login_limits, generation),
            LoginOutcome::Failed(error) => note_failed(&shared, generation, error),
            LoginOutcome::Unknown => {
                if let Some(control_plane) = shared.control_plane() {
                    control_plane.login_unknown(generation);
                }
            }
        }
    }
}

impl<F: PoolFactory> PoolLogins<F> {
    async fn open_permit(
        &self,
        shared: &Shared<F>,
        generation: &Generation<F::Pool>,
        over: Pin<&mut Notified<'_>>,
    ) -> Option<LoginPermit> {
        let permits = async {
            let permit = self.login_limits.permit().await;
            let ahead = self.login_limits.go_ahead(|| shared.clock.mono()).await;
            (permit, ahead)
        };
        let permits = tokio::select! {
            biased;
            () = over => return None,
            permits = permits => permits,
        };
        // Logins may be limited by now, or the server full.
        shared.admission.is_open().then(|| LoginPermit {
            generation: Some(generation.number),
            permits,
            head_start: Some(self.login_limits.head_start(shared.clock.mono())),
            admitted: None,
        })
    }
}

async fn engaged_permit<'g, F: PoolFactory>(
    shared: &'g Arc<Shared<F>>,
    generation: &Arc<Generation<F::Pool>>,
    over: Pin<&mut Notified<'_>>,
    place: &mut Place<'g, F::Pool>,
) -> Option<LoginPermit> {
    // The pool's own timeout ends the wait.
    let timeout = Instant::now() + shared.settings.acquire_timeout;
    let limit = until_expiry(generation, timeout);
    let take_none = || None::<std::convert::Infallible>;
    match wait_at_front(shared, generation, over, limit, place, take_none).await {
        QueueOutcome::Permit(permit) => Some(LoginPermit {
            generation: Some(generation.number),
            admitted: Some(Box::new(permit)),
            ..LoginPermit::default()
        }),
        QueueOutcome::Taken(never) => match never {},
        QueueOutcome::Moved | QueueOutcome::Again => None,
    }
}

/// Notes the error of a login. The pool or its caller keeps the original.
fn note_failed<F: PoolFactory>(
    shared: &Shared<F>,
    generation: u64,
    error: &(dyn StdError + 'static),
) {
    let Some(control_plane) = shared.control_plane() else {
        return;
    };
    let classified = control_plane.classify(error);
    match classified.kind() {
        ConnectErrorKind::Rejected => control_plane.login_rejected(generation, classified),
        ConnectErrorKind::Overloaded => shared.admission.note_full(classified, shared.clock.mono()),
        _ => verify_in_background(shared, generation, &classified),
    }
}

/// Waits in the pool's own queue for a connection of the current generation.
pub(super) async fn get_in_pool<F: PoolFactory>(
    shared: &Arc<Shared<F>>,
    generation: &Arc<Generation<F::Pool>>,
    mut over: Pin<&mut Notified<'_>>,
    call: &mut Call<F>,
) -> TryOutcome<F> {
    let limit = wait_deadline(generation, call);
    let waits = Arc::new(AtomicBool::new(false));
    let getting = WAITS_FOR_PERMIT.scope(Arc::clone(&waits), shared.factory.get(&generation.pool));
    let mut getting = std::pin::pin!(getting);
    let result = match poll_once(getting.as_mut()).await {
        Poll::Ready(result) => result,
        Poll::Pending => tokio::select! {
            biased;
            () = over.as_mut() => return retry_on_next_generation(shared),
            result = getting => result,
            // Polled after the acquire, which sets the flag.
            () = has_waited(&waits) => return TryOutcome::Again,
            () = sleep_until(limit) => return TryOutcome::Again,
        },
    };
    let got = PoolResult {
        result,
        opened: false,
    };
    check_result(shared, generation, got, call).await
}

/// Resolves when the call has waited for a permit for [`REQUEUE_AFTER`].
async fn has_waited(waits: &AtomicBool) {
    let mut timer = std::pin::pin!(sleep(REQUEUE_AFTER));
    let mut began = false;
    poll_fn(|context| {
        if !waits.load(Ordering::Acquire) {
            began = false;
            return Poll::Pending;
        }
        if !began {
            timer.as_mut().reset(Instant::now() + REQUEUE_AFTER);
            began = true;
        }
        timer.as_mut().poll(context)
    })
    .await;
}
