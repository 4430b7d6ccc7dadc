//! The current generation of a pool and its life cycle: the data plane, which the control plane
//! writes and every caller reads.

use std::error::Error as StdError;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};

use super::admission::Admission;
use super::checks::Checks;
use super::factory::{Check, PoolFactory};
use super::login_limits::LoginLimits;
use super::settings::PoolSettings;
use crate::clock::Clock;
use crate::error::ConnectError;
use crate::expiry::Expiry;
use crate::lease::OldConnections;
use crate::lock::Mutex;
use crate::next_attempt::NextAttempt;
use crate::status::PoolStatus;
use crate::telemetry::{Meters, Origin};

/// Phase of a generation. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Nothing was verified yet. Ends with the first publication.
    Vacant = 0,
    /// Callers log in and query. Ends with a rejection, or with a newer generation.
    Serving = 1,
    /// Nobody logs in any more; callers share the open connections. Ends with a newer generation.
    Rejected = 2,
    /// A newer generation is published. Never ends.
    Superseded = 3,
    /// The pool is removed, or the supervisor shuts down. Never ends.
    Closed = 4,
}

/// Life cycle of one generation. Notifies its callers of its end.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    phase: AtomicU8,
    rejection: OnceLock<ConnectError>,
    /// Shared with the generations before it in the same pool, so that callers queued there are
    /// notified of its end, too.
    ended: Arc<Notify>,
    /// Limits on callers' logins. Shared in the same way.
    pub(crate) login_limits: Arc<LoginLimits>,
    /// Whether the server ended a connection, possibly because the role expired. Connections are
    /// probed until a probe succeeds.
    unverified: AtomicBool,
}

impl Lifecycle {
    pub(super) fn new(phase: Phase, login_limits: Arc<LoginLimits>) -> Self {
        Self {
            phase: AtomicU8::new(phase as u8),
            rejection: OnceLock::new(),
            ended: Arc::default(),
            login_limits,
            unverified: AtomicBool::new(false),
        }
    }

    /// Returns how connections are checked before they are handed out.
    pub(super) fn check(&self) -> Check {
        if self.unverified.load(Ordering::Acquire) {
            Check::Probe
        } else {
            Check::Ping
        }
    }

    pub(super) fn set_unverified(&self, unverified: bool) {
        self.unverified.store(unverified, Ordering::Release);
    }

    /// Returns the life cycle of a generation that serves the same pool. Callers of the old one are
    /// notified of the new one's end.
    pub(super) fn successor(&self) -> Self {
        Self {
            ended: Arc::clone(&self.ended),
            ..Self::new(Phase::Serving, Arc::clone(&self.login_limits))
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Vacant,
            1 => Phase::Serving,
            2 => Phase::Rejected,
            3 => Phase::Superseded,
            _ => Phase::Closed,
        }
    }

    /// Resolves when the generation is over. Create it before [`phase`](Self::phase) is read, so
    /// that no end is missed.
    pub(crate) fn ended(&self) -> Notified<'_> {
        self.ended.notified()
    }

    /// Returns the database's error for the rejection.
    pub(crate) fn rejection(&self) -> Option<&ConnectError> {
        self.rejection.get()
    }

    /// Notes that the database rejected a caller. The first rejection ends the generation. Returns
    /// whether this is the first.
    pub(super) fn reject(&self, error: ConnectError) -> bool {
        let _ = self.rejection.set(error);
        let first = self
            .phase
            .compare_exchange(
                Phase::Serving as u8,
                Phase::Rejected as u8,
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .is_ok();
        if first {
            self.ended.notify_waiters();
        }
        first
    }

    /// Notes that a newer generation is published. `quietly` if it serves the same pool: callers
    /// queued there need not move.
    pub(super) fn supersede(&self, quietly: bool) {
        self.end(Phase::Superseded, quietly);
    }

    /// Notes that the pool is closed.
    pub(super) fn close(&self) {
        self.end(Phase::Closed, false);
    }

    fn end(&self, phase: Phase, quietly: bool) {
        let before = self.phase.swap(phase as u8, Ordering::AcqRel);
        // A rejection has notified its callers already. Later ones are woken when the attempt
        // ends.
        if !quietly && before == Phase::Serving as u8 {
            self.ended.notify_waiters();
        }
    }
}

/// One generation of a pool.
#[derive(Clone)]
pub(crate) struct Generation<P> {
    pub(crate) number: u64,
    pub(crate) pool: P,
    pub(crate) expiry: Expiry,
    pub(crate) old_connections: OldConnections,
    /// Time until which open connections are handed out without newer credentials.
    pub(crate) connections_until: Expiry,
    pub(crate) lifecycle: Arc<Lifecycle>,
    /// The rotation that published it.
    pub(crate) origin: Origin,
}

impl<P> Generation<P> {
    /// Returns whether its lease has expired.
    pub(crate) fn is_expired(&self, clock: &Clock) -> bool {
        !self.expiry.is_never() && self.expiry.is_expired(clock.now())
    }

    /// Creates a generation without a lease. `max` is the pool's maximum number of connections.
    pub(crate) fn without_lease(number: u64, phase: Phase, pool: P, max: u32) -> Self {
        Self {
            number,
            pool,
            expiry: Expiry::never(),
            old_connections: OldConnections::Keep,
            connections_until: Expiry::never(),
            lifecycle: Arc::new(Lifecycle::new(phase, LoginLimits::new(max))),
            origin: Origin::default(),
        }
    }
}

/// The control plane as callers use it: for logins and errors.
pub(crate) trait ControlPlane: Send + Sync {
    /// Notes that the database rejected a caller of this generation.
    fn rejected(&self, generation: u64, error: ConnectError);
    /// Notes a rejected login of this generation: counts it, and does what
    /// [`rejected`](Self::rejected) does.
    fn login_rejected(&self, generation: u64, error: ConnectError);
    /// Notes that a caller's login of this generation worked.
    fn login_worked(&self, generation: u64);
    /// Notes that a login of this generation outlasted its caller, so that its result is unknown.
    fn login_unknown(&self, generation: u64);
    /// Notes that a statement failed in a way that a dropped role would explain.
    fn note_unverified(&self, generation: u64);
    /// Returns the error of the last failed attempt, or of the provider.
    fn last_error(&self) -> Option<ConnectError>;
    /// Classifies an error that a user of the pool got, and adds details of the active credentials.
    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError;
    fn status(&self) -> PoolStatus;
}

/// State that all handles of a pool share.
pub(crate) struct Shared<F: PoolFactory> {
    pub(crate) name: Arc<str>,
    pub(crate) factory: Arc<F>,
    pub(crate) settings: PoolSettings,
    pub(crate) clock: Clock,
    pub(crate) meters: Meters,
    pub(crate) admission: Arc<Admission<F::Pool>>,
    pub(crate) checks: Checks,
    current: ArcSwap<Generation<F::Pool>>,
    changed: watch::Sender<u64>,
    /// Notifies waiting callers of a new generation.
    waiting: Notify,
    /// Start of the next attempt that may help callers.
    next_attempt: Mutex<NextAttempt>,
    control_plane: Option<Weak<dyn ControlPlane>>,
    moved_callers: AtomicU64,
}

impl<F: PoolFactory> Shared<F> {
    pub(crate) fn new(
        name: Arc<str>,
        factory: Arc<F>,
        settings: PoolSettings,
        clock: Clock,
        meters: Meters,
        first: Generation<F::Pool>,
        control_plane: Option<Weak<dyn ControlPlane>>,
    ) -> Arc<Self> {
        let counter = Arc::clone(&factory);
        let connections = Arc::new(move |pool: &F::Pool| counter.connections(pool));
        Arc::new(Self {
            name,
            factory,
            admission: Admission::new(settings.max_connections, settings.overlap, connections),
            checks: Checks::new(settings.checks, clock.mono()),
            settings,
            clock,
            meters,
            changed: watch::Sender::new(first.number),
            current: ArcSwap::from_pointee(first),
            waiting: Notify::new(),
            // The actor has not decided yet: callers wait for that.
            next_attempt: Mutex::new(NextAttempt::Running),
            control_plane,
            moved_callers: AtomicU64::new(0),
        })
    }

    /// Counts a caller whose generation ended while it waited there.
    pub(crate) fn note_moved(&self) {
        self.moved_callers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn moved_callers(&self) -> u64 {
        self.moved_callers.load(Ordering::Relaxed)
    }

    /// Returns the current generation. Costs one atomic load.
    pub(crate) fn current(&self) -> Arc<Generation<F::Pool>> {
        self.current.load_full()
    }

    /// Makes a generation the current one. The old one ends after this, so that callers who are
    /// notified of its end find the new one.
    pub(super) fn publish(&self, generation: Generation<F::Pool>) {
        let number = generation.number;
        self.current.store(Arc::new(generation));
        self.changed
            .send_if_modified(|published| std::mem::replace(published, number) != number);
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Resolves when waiting callers are notified.
    pub(crate) fn next_notification(&self) -> Notified<'_> {
        self.waiting.notified()
    }

    /// Notifies waiting callers that a generation was published, extended or closed.
    pub(super) fn notify_waiting(&self) {
        self.waiting.notify_waiters();
    }

    /// Sets when the next attempt that may help callers begins. `next_attempt` runs under the lock,
    /// so that concurrent updates are not lost. The first callers in the queue read the value from
    /// time to time. Those behind them have later deadlines, and need not end their wait earlier.
    pub(super) fn set_next_attempt(&self, next_attempt: impl FnOnce() -> NextAttempt) {
        let mut expected = self.next_attempt.lock();
        *expected = next_attempt();
    }

    pub(crate) fn next_attempt(&self) -> NextAttempt {
        *self.next_attempt.lock()
    }

    /// Returns the control plane, while it exists.
    pub(crate) fn control_plane(&self) -> Option<Arc<dyn ControlPlane>> {
        self.control_plane.as_ref()?.upgrade()
    }
}
