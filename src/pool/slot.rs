//! What must outlive a crash of the pool actor, and what the rest of the framework may ask of it.

use std::error::Error as StdError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::decide::{Action, Attempt, State};
use super::generation::{End, Generation, Keeper, Phase, Shared};
use super::{PoolFactory, PoolSettings, attempt, drain, probe};
use crate::actor::{Mailbox, Slot};
use crate::clock::Clock;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::expiry::Expiry;
use crate::lease::{Lease, OldConnections, Revision};
use crate::outlook::Outlook;
use crate::provider::{ProviderSlot, Subscriber};
use crate::supervisor::{Context, Event, EventHub, PoolStatus};
use crate::telemetry::Origin;
use crate::trouble::Trouble;

/// A pool's slot: its state, its factory, where its leases come from and what its handles share.
pub(crate) struct PoolSlot<F: PoolFactory> {
    name: Arc<str>,
    factory: Arc<F>,
    terms: PoolSettings,
    upstream: Arc<ProviderSlot<F::Secret>>,
    context: Context,
    shared: Arc<Shared<F>>,
    state: Mutex<State<F::Secret, F::Pool>>,
    pub(super) mailbox: Mailbox,
    /// Fires whenever something settled: for whoever waits in a task of their own.
    settled: Notify,
    /// That verifications fail.
    pub(super) trouble: Trouble,
}

impl<F: PoolFactory> PoolSlot<F> {
    pub(crate) fn new(
        name: Arc<str>,
        factory: F,
        upstream: Arc<ProviderSlot<F::Secret>>,
        context: Context,
    ) -> Arc<Self> {
        let terms = factory.settings();
        let factory = Arc::new(factory);
        Arc::new_cyclic(|weak: &Weak<Self>| {
            let vacant = Generation {
                number: 0,
                pool: factory.vacant(),
                expiry: Expiry::never(),
                old_connections: OldConnections::Drain,
                end: End::new(Phase::Vacant, terms.max_connections),
                origin: Origin::default(),
            };
            let shared = Shared::new(
                Arc::clone(&name),
                Arc::clone(&factory),
                terms.clone(),
                context.clock.clone(),
                context.meters.clone(),
                vacant,
            );
            shared.keep(weak.clone());
            Self {
                state: Mutex::new(State::new(terms.max_connections, context.clock.now())),
                name,
                factory,
                terms,
                upstream,
                context,
                shared,
                mailbox: Mailbox::default(),
                settled: Notify::new(),
                trouble: Trouble::default(),
            }
        })
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn factory(&self) -> &F {
        &self.factory
    }

    pub(crate) fn terms(&self) -> &PoolSettings {
        &self.terms
    }

    pub(crate) fn upstream(&self) -> &Arc<ProviderSlot<F::Secret>> {
        &self.upstream
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.context.clock
    }

    pub(crate) fn events(&self) -> &EventHub {
        &self.context.events
    }

    pub(crate) fn shared(&self) -> &Arc<Shared<F>> {
        &self.shared
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<F::Secret, F::Pool>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something settled: whoever waits looks again, and so does the actor.
    pub(crate) fn settled(&self) {
        self.settled.notify_waiters();
        self.mailbox.poke();
    }

    pub(crate) fn next_settled(&self) -> tokio::sync::futures::Notified<'_> {
        self.settled.notified()
    }

    pub(super) fn served_lease(&self) -> Option<Lease<F::Secret>> {
        self.lock()
            .serving
            .as_ref()
            .map(|serving| serving.loan.lease.clone())
    }

    /// The database rejected this generation; nothing happens for one that is not served any more.
    pub(super) fn end_rejected(&self, number: u64, error: ConnectError) {
        let generation = self.shared.current();
        if generation.number != number {
            return;
        }
        if generation.end.phase() != Phase::Serving {
            return self.mailbox.poke();
        }
        // Under the outlook's lock: callers hear of the end with the outlook that belongs to it,
        // whatever the actor finds out at the same time.
        let mut is_first = false;
        self.shared.expect(|| {
            self.lock().noted = true;
            is_first = generation.end.reject(error.clone());
            Outlook::Running
        });
        if is_first {
            tracing::info!(pool = %self.name, provider = %self.upstream.name(), generation = number, error = %error, "the database rejected the credential");
            self.events().send(Event::Rejected {
                pool: Arc::clone(&self.name),
                generation: number,
                error,
            });
        }
        self.mailbox.poke();
    }

    /// What the provider has, and whose credentials these are.
    fn account_of(&self, lease: &Lease<F::Secret>) -> Arc<str> {
        self.factory.account(lease.secret()).into()
    }

    /// What was noted on the data plane since the last turn.
    fn take_notes(&self, held: Option<(&Lease<F::Secret>, &Arc<str>)>) {
        let generation = self.shared.current();
        if generation.end.phase() == Phase::Rejected
            && let Some(error) = generation.end.rejection()
        {
            let held = held.map(|(lease, user)| (lease.revision(), user));
            self.lock()
                .note_rejected(generation.number, error.clone(), held, self.clock().mono());
        }
    }

    /// What the provider has, and whose credentials these are. Calls the factory: not to be called
    /// under a lock.
    pub(super) fn held(&self) -> Option<(Lease<F::Secret>, Arc<str>)> {
        self.upstream.held().map(|held| {
            let user = self.account_of(&held);
            (held, user)
        })
    }

    /// Finds out when something that may help callers is tried next, and lets them know.
    fn expect(&self) {
        // Before the outlook is locked: a factory's code may ask for the pool's status.
        let known = self.held();
        self.shared.expect(|| self.outlook(known.as_ref()));
    }

    fn outlook(&self, known: Option<&(Lease<F::Secret>, Arc<str>)>) -> Outlook {
        let now = self.clock().now();
        let held = self.upstream.held();
        let user = match (&held, known) {
            (None, _) => None,
            (Some(held), Some((known, user))) if held.revision() == known.revision() => Some(user),
            // It is news that the actor is about to act upon.
            (Some(_), _) => return Outlook::Running,
        };
        let own = {
            let state = self.lock();
            let unseen = self.shared.current().end.phase() == Phase::Rejected
                && state
                    .serving
                    .as_ref()
                    .is_some_and(|serving| !serving.rejected);
            if unseen {
                Outlook::Running
            } else {
                state.outlook(held.as_ref().zip(user), now)
            }
        };
        own.or(self.upstream.outlook(now.mono()))
    }

    /// An attempt failed: what is served goes on.
    pub(super) fn attempt_failed(&self, attempt: &Attempt, error: ConnectError) {
        let now = self.clock().now();
        let tell = {
            let mut state = self.lock();
            let tell = state.failed(attempt, &error, now);
            // Nothing is fetched for a pool that leaves.
            if state.closing { Vec::new() } else { tell }
        };
        self.say_not_verified(attempt, &error, now);
        self.events().send(Event::VerificationFailed {
            pool: Arc::clone(&self.name),
            error: error.clone(),
        });
        if attempt.check_only && error.kind() == ConnectErrorKind::Rejected {
            self.end_rejected(self.shared.current().number, error);
        }
        for revision in tell {
            self.upstream.note_rejected(&revision);
        }
        self.settled();
        self.expect();
    }

    /// Callers are told of a later death under the same number.
    fn extend(&self, expiry: Expiry) {
        let mut state = self.lock();
        if let Some(serving) = &mut state.serving {
            serving.expiry = expiry;
            // The drain deadline is counted from the later death, too.
            serving.loan.lease = serving.loan.lease.clone().with_expiry(expiry);
            serving.loan.life = expiry.remaining(self.clock().now());
            let current = self.shared.current();
            self.shared.publish(Generation {
                number: current.number,
                pool: current.pool.clone(),
                expiry,
                old_connections: current.old_connections,
                end: Arc::clone(&current.end),
                origin: current.origin.clone(),
            });
        }
        drop(state);
        self.shared.tell_waiting();
    }

    /// Nothing new starts, callers get `PoolClosed`, and what is served begins to drain.
    pub(crate) fn retire(self: &Arc<Self>) {
        let now = self.clock().now();
        let mut state = self.lock();
        if std::mem::replace(&mut state.closing, true) {
            drop(state);
            // Those whose task is gone with its runtime.
            return drain::start(self);
        }
        let generation = self.shared.current();
        let loan = state
            .serving
            .take()
            .map(|serving| (serving.loan, serving.user));
        if generation.end.phase() != Phase::Vacant {
            let cause = tracing::Span::none();
            state.drains.enter(
                generation.number,
                generation.pool.clone(),
                loan,
                self.context.settings.drain,
                now,
                cause,
            );
        }
        drop(state);
        generation.end.retire(false);
        if self.upstream.is_closing() {
            // Of what ends with the supervisor, nobody is to hear that every pool took it.
            self.upstream.end_settling();
        } else {
            self.excuse();
            self.upstream.pool_leaves();
        }
        // Here, not by the actor: it may be waiting for its restart.
        drain::start(self);
        self.shared.tell_waiting();
        self.settled();
    }

    /// No rotation is to wait for this pool.
    fn excuse(&self) {
        if let Some(rotation) = self.upstream.rotation() {
            rotation.excuse(&self.name);
            self.upstream.pool_settled(&rotation);
        }
    }

    /// Resolves when no attempt runs.
    pub(crate) async fn idle(&self) {
        loop {
            let settled = self.next_settled();
            if self.lock().attempt.is_none() {
                return;
            }
            settled.await;
        }
    }

    /// Resolves when every retired generation has drained. A drain whose task is lost with its
    /// runtime, now or later, goes on in a task of the caller's runtime.
    pub(crate) async fn drained(self: &Arc<Self>) {
        loop {
            let settled = self.next_settled();
            drain::start(self);
            if self.lock().drains.is_empty() {
                return;
            }
            settled.await;
        }
    }

    /// Nothing of it uses a lease any more.
    pub(crate) fn leave(&self) {
        self.upstream.unsubscribe(std::ptr::from_ref(self));
    }

    /// Generations that still have connections, with their number.
    pub(crate) fn undrained(&self) -> Vec<(u64, u32)> {
        // The factory's code runs outside of the lock.
        let drains: Vec<_> = self
            .lock()
            .drains
            .iter()
            .map(|drain| (drain.number, drain.pool.clone()))
            .collect();
        drains
            .into_iter()
            .map(|(number, pool)| (number, self.factory.connections(&pool)))
            .collect()
    }
}

impl<F: PoolFactory> Slot for PoolSlot<F> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    fn turn(self: &Arc<Self>) -> Option<Duration> {
        self.context.traps.spring(&self.name, "pool.turn");
        let held = self.held();
        let ours = held.as_ref().map(|(held, user)| (held, user));
        self.take_notes(ours);
        let now = self.clock().now();
        let actions = self.lock().decide(ours, now);
        for action in actions {
            match action {
                Action::HandOver {
                    attempt,
                    check_only,
                } => attempt::spawn(self, attempt, check_only),
                Action::Extend(expiry) => self.extend(expiry),
                Action::Report(revision) => self.upstream.note_rejected(&revision),
                Action::Probe => probe::spawn(self),
                Action::Settled => {
                    if self.lock().last_error.is_none() {
                        // A wrong secret was put right, and nothing had to be verified for it.
                        self.trouble.over();
                    }
                    if let Some((held, _)) = &held {
                        self.excuse_if_waited_for(&held.revision().digest());
                    }
                }
            }
        }
        drain::start(self);
        self.expect();
        self.settled.notify_waiters();
        self.lock()
            .next(now)
            .map(|at| at.saturating_duration_since(now.mono()))
    }
}

impl<F: PoolFactory> PoolSlot<F> {
    fn excuse_if_waited_for(&self, served: &str) {
        if let Some(rotation) = self.upstream.rotation()
            && rotation.waits_for(&self.name, served)
        {
            self.excuse();
        }
    }
}

impl<F: PoolFactory> Subscriber for PoolSlot<F> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn is_leaving(&self) -> bool {
        self.lock().closing
    }

    fn serves(&self, revision: &Revision) -> bool {
        self.lock()
            .serving
            .as_ref()
            .is_some_and(|serving| serving.revision() == revision && !serving.rejected)
    }

    fn verified_elsewhere(&self, revision: &Revision, account: &str) {
        if self
            .lock()
            .note_verified_elsewhere(revision, account, self.clock().mono())
        {
            self.mailbox.poke();
        }
    }

    fn poke(&self) {
        self.mailbox.poke();
    }
}

impl<F: PoolFactory> Keeper for PoolSlot<F> {
    fn rejected(&self, number: u64, error: ConnectError) {
        self.end_rejected(number, error);
    }

    fn login_rejected(&self, number: u64, error: ConnectError) {
        self.lock().note_login_rejected(number, self.clock().mono());
        self.end_rejected(number, error);
    }

    fn login_worked(&self, number: u64) {
        let worked = {
            let state = self.lock();
            let serving = state
                .serving
                .as_ref()
                .filter(|serving| serving.number == number);
            serving.map(|serving| (serving.revision().clone(), Arc::clone(&serving.user)))
        };
        if let Some((revision, user)) = worked {
            self.upstream.tell_verified(&revision, &user);
        }
    }

    fn unheard(&self, number: u64) {
        if self.lock().note_unheard(number, self.clock().mono()) {
            self.mailbox.poke();
        }
    }

    fn suspect(&self, number: u64) {
        let generation = self.shared.current();
        if generation.number == number {
            generation.end.suspect();
            self.lock().note_suspect(self.clock().mono());
            self.mailbox.poke();
        }
    }

    fn last_error(&self) -> Option<ConnectError> {
        let own = self.lock().last_error.clone();
        own.or_else(|| {
            let error = self.upstream.lock().last_error.clone()?;
            Some(ConnectError::new(
                ConnectErrorKind::Other,
                format!(
                    "provider {:?} has no lease to give: {error}",
                    self.upstream.name()
                ),
            ))
        })
    }

    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        let connect_error = self.factory.classify(error);
        match self.served_lease() {
            Some(lease) => self.factory.explain(lease.secret(), connect_error),
            None => connect_error,
        }
    }

    fn status(&self) -> PoolStatus {
        self.as_status()
    }
}
