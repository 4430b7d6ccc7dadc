//! What is owed to the backend: leases that no connection uses any more.

use std::sync::Arc;
use std::time::Instant;

use super::bucket::TokenBucket;
use super::schedule;
use super::slot::ProviderSlot;
use crate::clock::Timestamp;
use crate::error::ProviderError;
use crate::lease::{Lease, Revision};

/// A lease without a death is given up after so many rejections to take it back.
const ATTEMPTS: u32 = 10;

#[derive(Debug)]
struct Debt<S> {
    lease: Lease<S>,
    failures: u32,
    due: Instant,
    running: bool,
}

impl<S> Debt<S> {
    /// At the lease's own death, once it was tried: the backend may have lengthened its life
    /// meanwhile, or our clock be wrong.
    fn is_given_up(&self, now: Timestamp) -> bool {
        let expiry = self.lease.expiry();
        (expiry.is_expired(now) && self.failures > 0)
            || (expiry.is_never() && self.failures >= ATTEMPTS)
    }
}

/// Leases to be released.
#[derive(Debug)]
pub(crate) struct Debts<S> {
    owed: Vec<Debt<S>>,
}

impl<S> Default for Debts<S> {
    fn default() -> Self {
        Self { owed: Vec::new() }
    }
}

impl<S> Debts<S> {
    pub(crate) fn owe(&mut self, lease: Lease<S>, now: Instant) {
        if !self
            .owed
            .iter()
            .any(|debt| debt.lease.revision() == lease.revision())
        {
            self.owed.push(Debt {
                lease,
                failures: 0,
                due: now,
                running: false,
            });
        }
    }

    /// The backend offers this revision again: it is not to be released, unless it is too late to
    /// stop that.
    pub(crate) fn forget(&mut self, revision: &Revision) {
        self.owed
            .retain(|debt| debt.running || debt.lease.revision() != revision);
    }

    /// The leases to release now. A first attempt is free, further ones draw on the bucket as long
    /// as they leave a token for a fetch; of a dead lease there is none.
    pub(crate) fn due(&mut self, now: Timestamp, bucket: &mut TokenBucket) -> Vec<Lease<S>> {
        self.owed
            .retain(|debt| debt.running || !debt.is_given_up(now));
        let mut leases = Vec::new();
        for debt in &mut self.owed {
            if !debt.running
                && debt.due <= now.mono()
                && (debt.failures == 0 || bucket.take_spare(now.mono()))
            {
                debt.running = true;
                leases.push(debt.lease.clone());
            }
        }
        leases
    }

    pub(crate) fn next(&self, now: Instant, bucket: &TokenBucket) -> Option<Instant> {
        self.owed
            .iter()
            .filter(|debt| !debt.running)
            .map(|debt| {
                if debt.failures == 0 {
                    debt.due
                } else {
                    debt.due.max(bucket.spare_at(now))
                }
            })
            .min()
    }

    /// A release has ended. What only somebody's doing can mend is not tried again: the lease lives
    /// to its own death.
    fn settle(&mut self, revision: &Revision, released: &Result<(), ProviderError>, now: Instant) {
        if released
            .as_ref()
            .map_or_else(|error| !error.is_transient(), |()| true)
        {
            self.owed.retain(|debt| debt.lease.revision() != revision);
        } else if let Some(debt) = self
            .owed
            .iter_mut()
            .find(|debt| debt.lease.revision() == revision)
        {
            debt.running = false;
            debt.failures += 1;
            let asked = released.as_ref().err().and_then(ProviderError::wait_hint);
            debt.due = now + schedule::retry_after(debt.failures, false, None, asked, 0.0);
        }
    }

    /// The task of this release is gone. Returns whether one was running.
    fn lost(&mut self, revision: &Revision) -> bool {
        let debt = self
            .owed
            .iter_mut()
            .find(|debt| debt.running && debt.lease.revision() == revision);
        debt.map(|debt| debt.running = false).is_some()
    }

    /// How many leases are still to be released.
    pub(crate) fn len(&self) -> usize {
        self.owed.len()
    }

    /// Takes everything that is not being released at this moment.
    pub(crate) fn drain(&mut self) -> Vec<Lease<S>> {
        let (running, idle): (Vec<_>, Vec<_>) = self.owed.drain(..).partition(|debt| debt.running);
        self.owed = running;
        idle.into_iter().map(|debt| debt.lease).collect()
    }
}

/// Releases a lease in a task of its own; the outcome lands in the slot.
pub(super) fn spawn<S: Send + Sync + 'static>(slot: &Arc<ProviderSlot<S>>, lease: Lease<S>) {
    let guard = LostGuard {
        slot: Arc::clone(slot),
        revision: lease.revision().clone(),
    };
    tokio::spawn(async move {
        let slot = &guard.slot;
        let released = slot.release(lease).await;
        let now = slot.clock().mono();
        slot.lock().debts.settle(&guard.revision, &released, now);
        slot.settled();
    });
}

/// Held by the task of a release. If its runtime ends first, the lease is still to be released.
struct LostGuard<S: Send + Sync + 'static> {
    slot: Arc<ProviderSlot<S>>,
    revision: Revision,
}

impl<S: Send + Sync + 'static> Drop for LostGuard<S> {
    fn drop(&mut self) {
        // Nothing is left of one that has completed.
        let is_lost = self.slot.lock().debts.lost(&self.revision);
        if is_lost {
            self.slot.settled();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ProviderErrorKind;
    use crate::expiry::Expiry;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn unavailable() -> ProviderError {
        ProviderError::new(ProviderErrorKind::Unavailable, "down")
    }

    /// How often a lease is tried while it lives and every attempt fails, up to so many times.
    fn attempts(expiry: Expiry, now: Timestamp, most: u32) -> u32 {
        let mut debts = Debts::default();
        let lease = Lease::new((), Revision::new("r")).with_expiry(expiry);
        debts.owe(lease.clone(), now.mono());
        for attempt in 0..most {
            let mut bucket = TokenBucket::full(now.mono());
            for debt in &mut debts.owed {
                debt.due = now.mono();
            }
            if debts.due(now, &mut bucket).is_empty() {
                return attempt;
            }
            debts.settle(lease.revision(), &Err(unavailable()), now.mono());
        }
        most
    }

    #[test]
    fn a_lease_is_tried_until_it_dies_a_dead_one_once_and_one_without_a_death_ten_times() {
        let now = Timestamp::now();
        assert_eq!(attempts(Expiry::after(now, HOUR), now, 100), 100);
        assert_eq!(attempts(Expiry::never(), now, 100), ATTEMPTS);
        assert_eq!(attempts(Expiry::after(now, Duration::ZERO), now, 100), 1);
    }

    #[test]
    fn it_is_tried_no_sooner_than_the_issuer_asks() {
        let now = Timestamp::now().mono();
        let next = |error: ProviderError| {
            let mut debts = Debts::default();
            let lease = Lease::new((), Revision::new("r"));
            debts.owe(lease.clone(), now);
            debts.settle(lease.revision(), &Err(error), now);
            debts.next(now, &TokenBucket::full(now)).map(|at| at - now)
        };
        assert_eq!(next(unavailable()), Some(Duration::from_secs(1)));
        assert_eq!(next(unavailable().retry_after(HOUR)), Some(HOUR));
    }
}
