//! A pool's slot: its state, and its interface to the rest of the library.

use std::error::Error as StdError;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::admission::{Admission, Permit};
use super::factory::PoolFactory;
use super::generation::{ControlPlane, Generation, Phase, Shared};
use super::machine::{PoolInput, PoolMachine};
use super::rehearse::Rehearsals;
use super::settings::PoolSettings;
use super::state::SlotState;
use crate::actor::Mailbox;
use crate::clock::Clock;
use crate::context::Context;
use crate::error::{ConnectError, ConnectErrorKind, ENDED_DURING_START};
use crate::events::EventHub;
use crate::failure_log::FailureLog;
use crate::id::Id;
use crate::lease::{Lease, Revision};
use crate::lock::{Mutex, MutexGuard};
use crate::notifier::Notifier;
use crate::provider::{BoxFuture, ProviderSlot, Subscriber};
use crate::report::PoolRehearsal;
use crate::status::PoolStatus;

/// Longest time for which a verification waits for room among old connections.
const VERIFICATION_WAIT: Duration = Duration::from_secs(1);
const VERIFICATION_RETRY: Duration = Duration::from_millis(5);

/// A pool's slot: its machine, factory and provider, and the state that its handles share. It
/// outlives a crash of the actor.
pub(crate) struct PoolSlot<F: PoolFactory> {
    id: Id,
    pub(super) upstream: Arc<ProviderSlot<F::Secret>>,
    pub(super) context: Context,
    pub(crate) shared: Arc<Shared<F>>,
    inner: Mutex<SlotState<F>>,
    pub(super) mailbox: Mailbox,
    /// Notified whenever the machine has handled a task's result.
    pub(super) notifier: Notifier,
    /// Log of failed verifications.
    pub(super) failures: FailureLog,
    /// Log of used-up login budgets, and whether a lease waits for one.
    pub(super) used_up_budgets: FailureLog,
    pub(super) waits_for_budget: AtomicBool,
    pub(super) rehearsals: Rehearsals,
    /// Time at which a connection was last closed to make room on a full server.
    pub(super) last_room: Mutex<Option<Instant>>,
}

impl<F: PoolFactory> PoolSlot<F> {
    pub(crate) fn new(
        name: Arc<str>,
        factory: F,
        upstream: Arc<ProviderSlot<F::Secret>>,
        context: Context,
    ) -> Arc<Self> {
        let settings = factory.settings();
        Arc::new_cyclic(|weak: &Weak<Self>| {
            let max = settings.max_connections;
            let vacant = Generation::without_lease(0, Phase::Vacant, factory.vacant(), max);
            let machine = PoolMachine::new(
                max,
                context.settings.drain,
                fastrand::u64(..),
                context.clock.now(),
            );
            Self {
                id: Id::next(),
                inner: Mutex::new(SlotState::new(machine)),
                upstream,
                shared: Shared::new(
                    name,
                    Arc::new(factory),
                    settings,
                    context.clock.clone(),
                    context.meters.clone(),
                    vacant,
                    Some(weak.clone()),
                ),
                context,
                mailbox: Mailbox::default(),
                notifier: Notifier::default(),
                failures: FailureLog::default(),
                used_up_budgets: FailureLog::default(),
                waits_for_budget: AtomicBool::default(),
                rehearsals: Rehearsals::default(),
                last_room: Mutex::default(),
            }
        })
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    pub(crate) fn provider_name(&self) -> &Arc<str> {
        self.upstream.name()
    }

    pub(crate) fn factory(&self) -> &F {
        &self.shared.factory
    }

    pub(crate) fn settings(&self) -> &PoolSettings {
        &self.shared.settings
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Returns the time since `began`.
    pub(super) fn since(&self, began: Instant) -> Duration {
        self.clock().mono().saturating_duration_since(began)
    }

    pub(crate) fn events(&self) -> &EventHub {
        &self.context.events
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, SlotState<F>> {
        self.inner.lock()
    }

    /// Notifies waiting tasks, and wakes the actor.
    pub(super) fn notify_and_wake(&self) {
        self.notifier.notify();
        self.mailbox.wake();
    }

    pub(super) fn active_lease(&self) -> Option<Lease<F::Secret>> {
        self.lock().active_lease().cloned()
    }

    /// Waits up to 1 s for a permit to verify, because a verification opens a connection, too.
    /// Without a permit, an attempt still verifies: other connections must not delay it for long.
    pub(super) async fn permit_to_verify(&self) -> Option<Permit<F::Pool>> {
        self.wait_for_room(Admission::enter_verification).await
    }

    /// Calls `enter` until it returns a permit, for up to 1 s.
    pub(super) async fn wait_for_room<T>(
        &self,
        enter: impl Fn(&Arc<Admission<F::Pool>>, &F::Pool) -> Option<T>,
    ) -> Option<T> {
        let deadline = self.clock().mono() + VERIFICATION_WAIT;
        loop {
            let permit = enter(&self.shared.admission, &self.shared.current().pool);
            if permit.is_some() || self.clock().mono() >= deadline {
                return permit;
            }
            sleep(VERIFICATION_RETRY).await;
        }
    }

    /// Resolves with the first result of `check`, which is called now and after each change.
    pub(crate) async fn until<T>(&self, check: impl FnMut() -> Option<T>) -> T {
        self.notifier.until(check).await
    }

    /// Returns the result of the pool's start; `None` while it may still succeed.
    pub(crate) fn start_result(&self) -> Option<Result<(), ConnectError>> {
        let inner = self.lock();
        if inner.machine.current().is_some() {
            return Some(Ok(()));
        }
        let fail_fast = self.context.settings.fail_fast;
        let ends_start = |error: &ConnectError| fail_fast || !error.is_transient();
        if let Some(error) = inner.last_error().filter(ends_start) {
            return Some(Err(error));
        }
        inner.machine.is_closed().then(|| {
            Err(ConnectError::new(
                ConnectErrorKind::Other,
                ENDED_DURING_START,
            ))
        })
    }

    /// Returns the last error of this pool, until a verification works.
    pub(crate) fn last_failure(&self) -> Option<ConnectError> {
        self.lock().last_error()
    }

    /// Returns the error of a start that ends before its first verification. `None` if that has not
    /// begun, because there is no lease.
    pub(crate) fn unfinished_start(&self) -> Option<ConnectError> {
        let lease = self.upstream.current_lease()?;
        let message = "the first verification, a login with its checks and hooks, has not ended";
        let error = ConnectError::new(ConnectErrorKind::Unreachable, message);
        Some(self.explain(&lease, error))
    }

    /// Returns whether logins with the active credentials fail for an unknown reason.
    pub(crate) fn has_unknown_login_error(&self) -> bool {
        self.lock().machine.has_unknown_login_error()
    }

    /// Resolves when no attempt runs and no rehearsal logs in.
    pub(crate) async fn idle(&self) {
        self.until(|| (!self.lock().machine.is_verifying()).then_some(()))
            .await;
    }

    /// Resolves when every old generation has drained. A drain whose runtime ends continues on
    /// the caller's runtime.
    pub(crate) async fn drained(self: &Arc<Self>) {
        self.until(|| {
            self.start_drains();
            self.lock().machine.drains().is_empty().then_some(())
        })
        .await;
    }

    /// Unsubscribes from the provider, once the pool uses no lease any more.
    pub(crate) fn leave(&self) {
        self.upstream.unsubscribe(self.id);
    }

    /// Returns the generations that drain, with the number of their connections.
    pub(crate) fn draining_connections(&self) -> Vec<(u64, u32)> {
        // The factory's code runs without the lock.
        let pools: Vec<_> = {
            let inner = self.lock();
            let draining = inner.draining.iter();
            draining
                .map(|(generation, draining)| (*generation, draining.pool.clone()))
                .collect()
        };
        pools
            .into_iter()
            .map(|(generation, pool)| (generation, self.factory().connections(&pool)))
            .collect()
    }
}

impl<F: PoolFactory> Subscriber<F::Secret> for PoolSlot<F> {
    fn id(&self) -> Id {
        self.id
    }

    fn name(&self) -> &Arc<str> {
        Self::name(self)
    }

    fn is_leaving(&self) -> bool {
        self.lock().machine.is_closed()
    }

    fn served_revision(&self) -> Option<Revision> {
        self.lock().machine.served_revision().cloned()
    }

    fn verified_elsewhere(&self, revision: &Revision, account: &str) {
        let input = PoolInput::VerifiedElsewhere {
            revision: revision.clone(),
            account: account.into(),
        };
        self.feed(input, None);
    }

    fn wake(&self) {
        self.mailbox.wake();
    }

    fn rehearse<'f>(&'f self, lease: &'f Lease<F::Secret>) -> BoxFuture<'f, PoolRehearsal> {
        Box::pin(self.verify_rehearsal(lease))
    }
}

impl<F: PoolFactory> ControlPlane for PoolSlot<F> {
    fn rejected(&self, generation: u64, error: ConnectError) {
        self.feed(PoolInput::CallerRejected { generation }, Some(&error));
    }

    fn login_rejected(&self, generation: u64, error: ConnectError) {
        self.feed(PoolInput::LoginRejected { generation }, Some(&error));
    }

    fn login_worked(&self, generation: u64) {
        self.feed(PoolInput::LoginWorked { generation }, None);
    }

    fn login_unknown(&self, generation: u64) {
        self.feed(PoolInput::LoginUnknown { generation }, None);
    }

    fn note_unverified(&self, generation: u64) {
        self.feed(PoolInput::Unverified { generation }, None);
    }

    fn last_error(&self) -> Option<ConnectError> {
        self.last_failure().or_else(|| {
            let (provider, error) = (self.upstream.name(), self.upstream.last_error()?);
            let kind = ConnectErrorKind::Other;
            Some(ConnectError::no_lease(kind, provider, &error))
        })
    }

    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        let connect_error = self.factory().classify(error);
        match self.active_lease() {
            Some(lease) => self.factory().explain(lease.secret(), connect_error),
            None => connect_error,
        }
    }

    fn status(&self) -> PoolStatus {
        Self::status(self)
    }
}
