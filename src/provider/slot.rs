//! A provider's slot: the state that outlives a crash of the provider actor, and its interface to
//! the rest of the library.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::driver::{Driver, InputValues, Work};
use super::erased::{BoxFuture, ErasedProvider};
use super::fetched::Fetched;
use super::machine::{Facts, FetchId, LeaseId, Offer, ProviderInput, ProviderMachine};
use crate::actor::{Mailbox, Slot};
use crate::clock::Clock;
use crate::context::Context;
use crate::error::ProviderError;
use crate::failure_log::FailureLog;
use crate::id::Id;
use crate::lease::{Lease, Revision};
use crate::lock::{Mutex, MutexGuard};
use crate::next_attempt::NextAttempt;
use crate::notifier::Notifier;
use crate::report::PoolRehearsal;
use crate::rotation::Rotation;
use crate::telemetry::Origin;

/// Subscriber to a provider's leases: a pool.
pub(crate) trait Subscriber<S>: Send + Sync {
    fn id(&self) -> Id;
    fn name(&self) -> &Arc<str>;
    /// Returns whether the pool takes no more leases, but still uses one.
    fn is_leaving(&self) -> bool;
    /// Returns the revision that the pool serves and does not verify again.
    fn served_revision(&self) -> Option<Revision>;
    /// Notes a successful login with this revision as this database user, perhaps by another pool.
    fn verified_elsewhere(&self, revision: &Revision, account: &str);
    fn wake(&self);
    /// Logs in with this lease, and does not serve it.
    fn rehearse<'f>(&'f self, lease: &'f Lease<S>) -> BoxFuture<'f, PoolRehearsal>;
}

/// See the [module](self).
pub(crate) struct ProviderSlot<S: Send + Sync + 'static> {
    id: Id,
    name: Arc<str>,
    pub(super) provider: Arc<dyn ErasedProvider<S>>,
    context: Context,
    driver: Mutex<Driver<S>>,
    subscribers: Mutex<Vec<Weak<dyn Subscriber<S>>>>,
    mailbox: Mailbox,
    /// Notified after each input.
    notifier: Notifier,
    pub(super) fetch_failures: FailureLog,
    pub(super) release_failures: FailureLog,
}

/// A lease in use. It is not released until the guard is dropped.
pub(crate) struct LeaseGuard<S: Send + Sync + 'static> {
    pub(crate) lease: Lease<S>,
    /// Time to live of the lease when it was obtained; `None` if it does not expire.
    pub(crate) lifetime: Option<Duration>,
    /// The rotation that obtained it.
    pub(crate) origin: Origin,
    id: LeaseId,
    slot: Arc<ProviderSlot<S>>,
}

impl<S: Send + Sync + 'static> Drop for LeaseGuard<S> {
    fn drop(&mut self) {
        self.slot.feed(ProviderInput::LeaseReturned(self.id));
    }
}

impl<S: Send + Sync + 'static> ProviderSlot<S> {
    pub(crate) fn new(
        name: Arc<str>,
        provider: Arc<dyn ErasedProvider<S>>,
        context: Context,
    ) -> Self {
        let machine = ProviderMachine::new(context.settings.poll, context.clock.now())
            .with_previous_lease_kept_for(context.settings.previous_lease_kept_for);
        Self {
            id: Id::next(),
            name,
            provider,
            context,
            driver: Mutex::new(Driver::new(machine)),
            subscribers: Mutex::default(),
            mailbox: Mailbox::default(),
            notifier: Notifier::default(),
            fetch_failures: FailureLog::default(),
            release_failures: FailureLog::default(),
        }
    }

    pub(crate) fn id(&self) -> Id {
        self.id
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.context.clock
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Driver<S>> {
        self.driver.lock()
    }

    /// Feeds the machine. The caller carries out the returned work without the lock.
    fn handle(&self, input: ProviderInput, values: InputValues<S>) -> Vec<Work<S>> {
        let mut driver = self.lock();
        driver.handle((&self.name, self.clock()), input, values)
    }

    /// Feeds the machine, and notifies waiting tasks.
    pub(super) fn feed(self: &Arc<Self>, input: ProviderInput) {
        self.feed_with(input, InputValues::none());
    }

    fn feed_with(self: &Arc<Self>, input: ProviderInput, values: InputValues<S>) {
        let work = self.handle(input, values);
        self.carry_out(work);
        self.notify_and_wake();
    }

    fn notify_and_wake(&self) {
        self.notifier.notify();
        self.mailbox.wake();
    }

    /// Resolves once `check` returns a value; checked at once and after each input.
    pub(crate) async fn until<T>(&self, mut check: impl FnMut(&ProviderMachine) -> Option<T>) -> T {
        self.notifier.until(|| check(&self.lock().machine)).await
    }
}

/// Interface for pools.
impl<S: Send + Sync + 'static> ProviderSlot<S> {
    pub(crate) fn subscribe(&self, subscriber: Weak<dyn Subscriber<S>>) {
        self.subscribers.lock().push(subscriber);
    }

    pub(crate) fn unsubscribe(self: &Arc<Self>, id: Id) {
        self.subscribers
            .lock()
            .retain(|one| one.upgrade().is_some_and(|pool| pool.id() != id));
        self.pool_left();
    }

    /// Notes that a pool takes no more leases.
    pub(crate) fn pool_left(self: &Arc<Self>) {
        let remaining = self.remaining_pools();
        let served = remaining.iter().map(|pool| pool.served_revision());
        self.feed(ProviderInput::PoolLeft(served.collect()));
    }

    /// Returns the pools that take this provider's leases.
    pub(crate) fn subscribers(&self) -> Vec<Arc<dyn Subscriber<S>>> {
        let subscribers = self.subscribers.lock();
        subscribers.iter().filter_map(Weak::upgrade).collect()
    }

    /// Returns the pools that take further leases.
    pub(super) fn remaining_pools(&self) -> Vec<Arc<dyn Subscriber<S>>> {
        let mut subscribers = self.subscribers();
        subscribers.retain(|pool| !pool.is_leaving());
        subscribers
    }

    /// Returns the current lease, without using it.
    pub(crate) fn current_lease(&self) -> Option<Lease<S>> {
        let driver = self.lock();
        driver.current().map(|(_, lease, _)| lease.clone())
    }

    /// Returns the current lease, in use until the guard is dropped.
    pub(crate) fn use_lease(self: &Arc<Self>) -> Option<LeaseGuard<S>> {
        let driver = self.lock();
        let (id, _) = driver.machine.current()?;
        let lifetime = driver.machine.lifetime();
        self.take_lease(driver, id, lifetime)
    }

    /// Returns the lease of this revision, current or superseded and not released yet. It is in use
    /// until the guard is dropped.
    pub(crate) fn use_unreleased(self: &Arc<Self>, revision: &Revision) -> Option<LeaseGuard<S>> {
        let driver = self.lock();
        let (id, lifetime) = driver.machine.unreleased_with(revision)?;
        self.take_lease(driver, id, lifetime)
    }

    fn take_lease(
        self: &Arc<Self>,
        mut driver: MutexGuard<'_, Driver<S>>,
        id: LeaseId,
        lifetime: Option<Duration>,
    ) -> Option<LeaseGuard<S>> {
        let guard = self.guard(&driver, id, lifetime)?;
        // This input has no effects.
        driver
            .machine
            .handle(ProviderInput::LeaseTaken(id), self.clock().now());
        Some(guard)
    }

    /// Returns a guard of a lease whose use the machine has noted.
    pub(super) fn guard_taken(self: &Arc<Self>, id: LeaseId) -> Option<LeaseGuard<S>> {
        self.guard(&self.lock(), id, None)
    }

    fn guard(
        self: &Arc<Self>,
        driver: &Driver<S>,
        id: LeaseId,
        lifetime: Option<Duration>,
    ) -> Option<LeaseGuard<S>> {
        let (lease, origin) = driver.stored(id)?;
        Some(LeaseGuard {
            lease: lease.clone(),
            lifetime,
            origin: origin.clone(),
            id,
            slot: Arc::clone(self),
        })
    }

    /// Notes that the database rejected a login with this revision.
    pub(crate) fn rejected(self: &Arc<Self>, revision: &Revision) {
        self.feed(ProviderInput::Rejected(revision.clone()));
    }

    /// Notes a successful login with this revision as this database user: feeds the machine, and
    /// notifies all pools.
    pub(crate) fn verified(self: &Arc<Self>, revision: &Revision, account: &str) {
        let work = self.handle(
            ProviderInput::Verified(revision.clone()),
            InputValues::none(),
        );
        self.notify_pools_of_login(revision, account);
        self.carry_out(work);
        self.notify_and_wake();
    }

    /// Notifies all pools of a successful login with this revision as this database user. Feeds no
    /// input to the machine, where only the login of a handover counts.
    pub(crate) fn notify_pools_of_login(&self, revision: &Revision, account: &str) {
        for pool in self.subscribers() {
            pool.verified_elsewhere(revision, account);
        }
    }

    /// Returns the rotation that a handover now belongs to, while it is open.
    pub(crate) fn rotation(&self) -> Option<Arc<Rotation>> {
        let driver = self.lock();
        let rotation = driver.machine.rotation(self.clock().mono())?;
        driver.rotation(rotation)
    }

    /// Notes that a pool has taken this rotation's lease, or has left.
    pub(crate) fn pool_done(self: &Arc<Self>, rotation: &Arc<Rotation>) {
        let open = self.lock().id_of(rotation);
        if let Some(id) = open.filter(|_| rotation.waits_for_no_pool()) {
            self.feed(ProviderInput::PoolsDone(id));
        } else {
            self.notify_and_wake();
        }
    }

    /// Notes that no pool takes leases any more. A rotation that waits for pools ends unfinished.
    pub(crate) fn all_pools_leave(self: &Arc<Self>) {
        self.feed(ProviderInput::PoolsGone);
    }

    /// Returns whether a fetch runs, or when the next one is due.
    pub(crate) fn next_attempt(&self, now: Instant) -> NextAttempt {
        self.lock().machine.next_attempt(now)
    }

    /// Returns the number of the provider's hold, if it is held.
    pub(crate) fn hold_number(&self) -> Option<u64> {
        self.lock().machine.hold_number()
    }

    /// Holds the provider, and returns the hold's number.
    pub(crate) fn hold(self: &Arc<Self>) -> Option<u64> {
        let mut driver = self.lock();
        let (input, values) = (ProviderInput::Hold, InputValues::none());
        let work = driver.handle((&self.name, self.clock()), input, values);
        let number = driver.machine.hold_number();
        drop(driver);
        self.carry_out(work);
        self.notify_and_wake();
        number
    }

    /// Returns whether fetching has stopped.
    pub(crate) fn is_closing(&self) -> bool {
        self.lock().machine.is_stopped()
    }

    /// Returns the error of the last fetch; `None` after one that succeeded.
    pub(crate) fn last_error(&self) -> Option<ProviderError> {
        self.lock().machine.last_error().cloned()
    }
}

/// Interface for tasks of the driver and of the provider.
impl<S: Send + Sync + 'static> ProviderSlot<S> {
    /// Returns the result, or an error if its lease has expired or there is none to renew.
    pub(super) fn reject_expired(&self, fetched: Fetched<S>) -> Result<Fetched<S>, ProviderError> {
        let offer = Offer::from_fetched(&fetched);
        let now = self.clock().now();
        // A rejected lease is dropped after the lock is released.
        self.lock().machine.reject_expired(offer, now)?;
        Ok(fetched)
    }

    /// Notes that a fetch ended, or that it passed its deadline (`hangs`).
    pub(super) fn fetch_ended(
        self: &Arc<Self>,
        fetch: FetchId,
        result: Result<Fetched<S>, ProviderError>,
        hangs: bool,
    ) {
        let jitter = fastrand::f64();
        // A pool's own lock is taken before the driver's.
        let remaining_pools = self.remaining_pools();
        let pools = remaining_pools
            .iter()
            .map(|pool| Arc::clone(pool.name()))
            .collect();
        let input = match result
            .as_ref()
            .map(Offer::from_fetched)
            .map_err(ProviderError::clone)
        {
            Err(error) if hangs => ProviderInput::FetchHangs {
                fetch,
                error,
                jitter,
            },
            result => ProviderInput::FetchDone {
                fetch,
                result,
                jitter,
            },
        };
        let lease = match result {
            Ok(Fetched::New(lease)) => Some(lease),
            _ => None,
        };
        let work = self.handle(input, InputValues { lease, pools });
        self.context
            .failpoints
            .panic_if_set(&self.name, "provider.fetched");
        self.carry_out(work);
        self.notify_and_wake();
    }

    /// Notes that a fetch ended after its deadline.
    pub(super) fn fetch_late(self: &Arc<Self>, fetch: FetchId, lease: Option<Lease<S>>) {
        let input = ProviderInput::FetchLate {
            fetch,
            lease: lease.as_ref().map(Facts::from_lease),
        };
        let values = InputValues {
            lease,
            ..InputValues::none()
        };
        self.feed_with(input, values);
    }
}

impl<S: Send + Sync + 'static> Slot for ProviderSlot<S> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    fn reconcile(self: &Arc<Self>) -> Option<Duration> {
        self.context
            .failpoints
            .panic_if_set(&self.name, "provider.wake");
        let work = self.handle(ProviderInput::Wake, InputValues::none());
        self.carry_out(work);
        self.notifier.notify();
        let next = self.lock().machine.next_deadline();
        next.map(|at| at.saturating_duration_since(self.clock().mono()))
    }
}
