//! What must outlive a crash of the provider actor, and what the rest of the framework may ask of
//! it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::decide::{ManualRequest, Settled, State};
use super::rotations;
use super::{Issuer, fetch, release};
use crate::actor::{Mailbox, Slot};
use crate::clock::{Clock, Timestamp};
use crate::error::{ProviderError, ProviderErrorKind};
use crate::lease::{Lease, Revision};
use crate::outlook::Outlook;
use crate::rotation::{Rotation, RotationOutcome};
use crate::supervisor::Context;
use crate::telemetry::Origin;
use crate::trouble::Trouble;

/// Whoever wants to know that another lease is held: pools.
pub(crate) trait Subscriber: Send + Sync {
    fn name(&self) -> &Arc<str>;
    /// It takes no more leases, but still uses one.
    fn is_leaving(&self) -> bool;
    /// It serves this revision, which is not rejected: it has no reason to verify it.
    fn serves(&self, revision: &Revision) -> bool;
    /// A login with this revision worked, as this database user, maybe of another pool.
    fn verified_elsewhere(&self, revision: &Revision, account: &str);
    fn poke(&self);
}

/// A provider's slot: its state, and whose it is.
pub(crate) struct ProviderSlot<S> {
    name: Arc<str>,
    issuer: Arc<dyn Issuer<S>>,
    context: Context,
    state: Mutex<State<S>>,
    subscribers: Mutex<Vec<Weak<dyn Subscriber>>>,
    mailbox: Mailbox,
    /// Fires whenever something settled: for whoever waits in a task of their own.
    settled: Arc<Notify>,
    /// That fetches fail.
    trouble: Trouble,
    /// That releases fail.
    releases: Trouble,
}

/// A lease in use: it is not released until given back.
pub(crate) struct Loan<S: Send + Sync + 'static> {
    pub(crate) lease: Lease<S>,
    /// How long the lease was to live when it came; `None` without a death.
    pub(crate) life: Option<Duration>,
    /// The rotation that brought it.
    pub(crate) origin: Origin,
    slot: Arc<ProviderSlot<S>>,
}

impl<S: Send + Sync + 'static> Drop for Loan<S> {
    fn drop(&mut self) {
        let now = self.slot.clock().mono();
        self.slot.lock().give_back(self.lease.revision(), now);
        self.slot.settled();
    }
}

impl<S: Send + Sync + 'static> ProviderSlot<S> {
    pub(crate) fn new(name: Arc<str>, issuer: Arc<dyn Issuer<S>>, context: Context) -> Self {
        let state = Mutex::new(State::new(context.clock.now()));
        Self {
            name,
            issuer,
            context,
            state,
            subscribers: Mutex::default(),
            mailbox: Mailbox::default(),
            settled: Arc::default(),
            trouble: Trouble::default(),
            releases: Trouble::default(),
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn issuer(&self) -> &Arc<dyn Issuer<S>> {
        &self.issuer
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.context.clock
    }

    pub(super) fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something settled: whoever waits looks again, and so does the actor.
    pub(crate) fn settled(&self) {
        self.settled.notify_waiters();
        self.mailbox.poke();
    }

    /// Resolves when something settles after this call, also before it is polled.
    pub(crate) fn next_settled(&self) -> tokio::sync::futures::OwnedNotified {
        Arc::clone(&self.settled).notified_owned()
    }

    pub(crate) fn subscribe(&self, subscriber: Weak<dyn Subscriber>) {
        self.lock_subscribers().push(subscriber);
    }

    /// By identity: another pool may have the name by now.
    pub(crate) fn unsubscribe<T>(&self, subscriber: *const T) {
        self.lock_subscribers()
            .retain(|one| one.strong_count() > 0 && !std::ptr::addr_eq(one.as_ptr(), subscriber));
        self.pool_leaves();
    }

    /// A rejection that concerned only pools that leave is forgotten: nobody is left who would
    /// verify what is held, and it would count as rejected for ever.
    pub(crate) fn pool_leaves(&self) {
        let Some(held) = self.held() else { return };
        if self
            .subscribers()
            .iter()
            .any(|pool| !pool.is_leaving() && !pool.serves(held.revision()))
        {
            return;
        }
        self.lock().forget_rejection(held.revision());
        self.end_at_rest();
    }

    /// The pools that take this provider's leases.
    pub(crate) fn subscribers(&self) -> Vec<Arc<dyn Subscriber>> {
        self.lock_subscribers()
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    fn lock_subscribers(&self) -> MutexGuard<'_, Vec<Weak<dyn Subscriber>>> {
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The held lease, without using it.
    pub(crate) fn held(&self) -> Option<Lease<S>> {
        self.lock().held.clone()
    }

    /// The held lease, in use until the loan is dropped.
    pub(crate) fn lend(self: &Arc<Self>) -> Option<Loan<S>> {
        let (lease, life, origin) = self.lock().lend()?;
        Some(Loan {
            lease,
            life,
            origin,
            slot: Arc::clone(self),
        })
    }

    /// The database rejected a login with this revision.
    pub(crate) fn note_rejected(&self, revision: &Revision) {
        self.lock().note_rejected(revision, self.clock().mono());
        self.mailbox.poke();
    }

    /// A login with this revision worked.
    pub(crate) fn note_verified(&self, revision: &Revision, account: &str) {
        self.lock().note_verified(revision, self.clock().mono());
        self.tell_verified(revision, account);
        self.end_at_rest();
    }

    /// A login with this revision worked, as this database user: news for pools that were rejected.
    pub(crate) fn tell_verified(&self, revision: &Revision, account: &str) {
        for pool in self.subscribers() {
            pool.verified_elsewhere(revision, account);
        }
    }

    pub(crate) fn note_changed(&self) {
        self.lock().note_changed(self.clock().mono());
        self.mailbox.poke();
    }

    pub(crate) fn note_manual(&self, request: ManualRequest) {
        self.lock().note_manual(request);
        self.mailbox.poke();
    }

    /// Whether a fetch runs, or when the next one is due.
    pub(crate) fn outlook(&self, now: Instant) -> Outlook {
        let state = self.lock();
        if state.in_flight.is_some() {
            return Outlook::Running;
        }
        if state
            .last_error
            .as_ref()
            .is_some_and(|error| !error.is_transient())
        {
            return Outlook::Never;
        }
        match state.next_fetch_at(now) {
            Some(at) if at <= now => Outlook::Running,
            Some(at) => Outlook::Due(at),
            None => Outlook::Never,
        }
    }

    /// Takes in what a fetch came to.
    pub(super) fn settle_fetch(
        self: &Arc<Self>,
        number: u64,
        started: Timestamp,
        result: Result<Lease<S>, ProviderError>,
    ) {
        let now = self.clock().now();
        let pools: Vec<Arc<str>> = self
            .subscribers()
            .iter()
            .filter(|pool| !pool.is_leaving())
            .map(|pool| Arc::clone(pool.name()))
            .collect();
        let settled = {
            let mut state = self.lock();
            let settled = state.settle(
                number,
                result,
                started,
                now,
                self.context.settings.poll,
                fastrand::f64(),
            );
            settled.map(|(settled, manual)| {
                let rotation = state.fetching.clone();
                let (closed, superseded) =
                    rotations::move_on(&mut state, &settled, rotation.as_ref(), pools, now.mono());
                // What is held may be on its way to the pools: whoever asked for a new one waits
                // for that.
                let on_its_way = state.settling.clone();
                (settled, manual, rotation, on_its_way, closed, superseded)
            })
        };
        if let Some((.., Some(rotation), _, _, _)) = &settled {
            rotation.record_revision();
        }
        self.release_orphans();
        self.context.traps.spring(&self.name, "provider.settled");
        if let Some((settled, manual, rotation, on_its_way, closed, superseded)) = settled {
            if let Some(superseded) = superseded {
                self.close_rotation(&superseded, RotationOutcome::Superseded);
            }
            self.report(&settled, rotation.as_ref());
            if let (Some(outcome), Some(rotation)) = (closed, &rotation) {
                self.close_rotation(rotation, outcome);
            }
            for request in manual {
                if let (Settled::Unchanged, Some(other)) = (&settled, &on_its_way) {
                    other.asked_for_by(&request.caller, now);
                }
                let _ = request.reply.send(
                    match (&settled, on_its_way.as_ref().or(rotation.as_ref())) {
                        (Settled::Failed(error), _) => Err(error.clone()),
                        (_, Some(rotation)) => Ok(Arc::clone(rotation)),
                        (_, None) => continue,
                    },
                );
            }
        }
        for subscriber in self.subscribers() {
            subscriber.poke();
        }
        self.settled();
    }

    /// Whether nothing is fetched any more.
    pub(crate) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Releases one lease under the fetch deadline, and says why the backend did not take it back.
    pub(crate) async fn release(self: &Arc<Self>, lease: Lease<S>) -> Result<(), ProviderError> {
        let revision = lease.revision().clone();
        let issuer = Arc::clone(&self.issuer);
        let mut task = tokio::spawn(async move { issuer.release(lease).await });
        let released =
            match tokio::time::timeout(self.context.settings.fetch_deadline, &mut task).await {
                Ok(Ok(released)) => released,
                Ok(Err(_)) => Err(ProviderError::new(
                    ProviderErrorKind::Panicked,
                    "the provider panicked while releasing; see its own output",
                )),
                Err(_) => {
                    // It is tried again: releases that hang would pile up.
                    task.abort();
                    Err(ProviderError::new(
                        ProviderErrorKind::TimedOut,
                        "the provider did not answer in time",
                    ))
                }
            };
        match &released {
            Ok(()) => {
                if let Some(times) = self.releases.over() {
                    tracing::info!(provider = %self.name, times, "leases are released again");
                }
            }
            Err(error) => match self
                .releases
                .met(self.clock().mono(), error.kind().as_str())
            {
                Some(times) if error.is_transient() => {
                    tracing::warn!(provider = %self.name, %revision, times, error = %error, "lease not released; the release is retried");
                }
                Some(times) => tracing::warn!(
                    provider = %self.name, %revision, times, error = %error,
                    "lease not released; it remains until it expires, as will others until the cause is removed"
                ),
                None => {
                    tracing::debug!(provider = %self.name, %revision, error = %error, "lease not released")
                }
            },
        }
        released
    }

    /// Gives back what came after everything else was given back: no actor does it any more.
    pub(super) fn release_orphans(self: &Arc<Self>) {
        let orphans = self.lock().orphans();
        for lease in orphans {
            let slot = Arc::clone(self);
            tokio::spawn(async move { slot.release(lease).await });
        }
    }

    /// Resolves when no release runs.
    pub(crate) async fn released(&self) {
        loop {
            let settled = self.next_settled();
            if self.lock().debts.len() == 0 {
                return;
            }
            settled.await;
        }
    }

    /// Nothing new starts; manual requests are dropped, which their callers see.
    pub(crate) fn stop_fetching(&self) {
        let abandoned = {
            let mut state = self.lock();
            state.closing = true;
            state.abandon_manual()
        };
        drop(abandoned);
        self.settled();
    }

    /// Resolves when no fetch runs.
    pub(crate) async fn idle(&self) {
        loop {
            let settled = self.next_settled();
            if self.lock().in_flight.is_none() {
                return;
            }
            settled.await;
        }
    }
}

impl<S: Send + Sync + 'static> Slot for ProviderSlot<S> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }

    fn turn(self: &Arc<Self>) -> Option<Duration> {
        let now = self.clock().now();
        self.context.traps.spring(&self.name, "provider.turn");
        let (decision, blocked, begun, asked_for) = {
            let mut state = self.lock();
            let decision = state.decide(now);
            let blocked = state.blocked_manual(now);
            let mut begun = None;
            if let Some((_, trigger)) = decision.fetch
                && state.fetching.is_none()
            {
                let rotation = Rotation::new(&self.name, trigger, now);
                begun = Some(Arc::clone(&rotation));
                state.fetching = Some(rotation);
            }
            let in_flight = decision.fetch.and(state.in_flight.as_ref());
            let asked_for = state
                .fetching
                .clone()
                .zip(in_flight.map(|fetch| fetch.callers().cloned().collect::<Vec<_>>()));
            (decision, blocked, begun, asked_for)
        };
        if let Some((requests, error)) = blocked {
            requests
                .into_iter()
                .for_each(|request| drop(request.reply.send(Err(error.clone()))));
        }
        // Without the lock: whoever observes spans may be slow, or ask for the status.
        if let Some(rotation) = begun {
            rotation.open();
        }
        if let Some((rotation, callers)) = asked_for {
            callers
                .iter()
                .for_each(|caller| rotation.asked_for_by(caller, now));
        }
        if let Some((number, trigger)) = decision.fetch {
            fetch::spawn(self, number, trigger, now);
        }
        for lease in decision.releases {
            release::spawn(self, lease);
        }
        decision
            .next
            .map(|at| at.saturating_duration_since(now.mono()))
    }
}
