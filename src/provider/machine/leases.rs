//! The life cycle of leases: current, superseded, queued, releasing, released.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::messages::{Facts, FetchId, LeaseId};
use crate::clock::Timestamp;
use crate::expiry::Expiry;
use crate::lease::Revision;

/// Time for which a superseded lease is not adopted again, unless the current one is rejected, has
/// expired or was never verified.
const SUPERSEDED_FOR: Duration = Duration::from_secs(3_600);
/// Most released leases that are remembered. A backend with a new credential for each fetch has
/// many.
const MAX_RELEASED: usize = 64;
/// Failed releases after which a lease without an expiry is given up.
const ATTEMPTS: u32 = 10;

/// State of a lease in its life cycle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum LeaseState {
    /// Pools take it. Ends when another lease is adopted.
    Current { users: usize },
    /// Ends when its last user returns it.
    Superseded { users: usize },
    /// In the release queue. Ends when its timer is due.
    Queued { failures: u32 },
    /// Ends with its release.
    Releasing { failures: u32 },
    /// Released or given up. Remembered for an hour.
    Released,
}

impl LeaseState {
    fn is_in_use(self) -> bool {
        matches!(self, Self::Current { .. } | Self::Superseded { .. })
    }

    /// Returns whether it is in use or in the release queue.
    fn is_unreleased(self) -> bool {
        !matches!(self, Self::Releasing { .. } | Self::Released)
    }
}

#[derive(Debug)]
pub(super) struct LeaseRecord {
    pub(super) facts: Facts,
    /// Time to live when it was obtained.
    pub(super) lifetime: Option<Duration>,
    /// Whether a login with it succeeded.
    pub(super) verified: bool,
    /// Time at which it became current, or was superseded.
    pub(super) since: Instant,
    /// Time at which a pool last returned to it after it was superseded, or had done with it.
    used_again: Option<Instant>,
    /// Whether it was offered again after it was superseded, and that was logged.
    pub(super) offered_again: bool,
    /// Failed releases of its revision before it was rehearsed. The next one is no first attempt.
    pub(super) failed_releases: u32,
    pub(super) state: LeaseState,
}

impl LeaseRecord {
    fn new(facts: Facts, now: Instant, state: LeaseState) -> Self {
        Self {
            facts,
            lifetime: None,
            verified: false,
            since: now,
            used_again: None,
            offered_again: false,
            failed_releases: 0,
            state,
        }
    }

    /// Returns whether the release is given up. An expired lease is still released once, because
    /// the backend may have extended it or our clock may be wrong.
    fn is_given_up(&self, failures: u32, now: Timestamp) -> bool {
        (self.facts.expiry.is_expired(now) && failures > 0)
            || (self.facts.expiry.is_never() && failures >= ATTEMPTS)
    }
}

/// All known leases. Of leases with the same revision, all but one are released or being
/// released.
#[derive(Debug, Default)]
pub(super) struct Leases(BTreeMap<LeaseId, LeaseRecord>);

impl Leases {
    pub(super) fn current(&self) -> Option<(LeaseId, &LeaseRecord)> {
        let mut latest_first = self.0.iter().rev();
        latest_first
            .find(|(_, record)| matches!(record.state, LeaseState::Current { .. }))
            .map(|(lease, record)| (*lease, record))
    }

    pub(super) fn current_mut(&mut self) -> Option<(LeaseId, &mut LeaseRecord)> {
        let (lease, _) = self.current()?;
        self.0.get_mut(&lease).map(|record| (lease, record))
    }

    pub(super) fn is_current(&self, revision: &Revision) -> bool {
        self.current()
            .is_some_and(|(_, current)| &current.facts.revision == revision)
    }

    fn with_revision<'r>(
        &'r self,
        revision: &'r Revision,
    ) -> impl Iterator<Item = (LeaseId, &'r LeaseRecord)> {
        self.0
            .iter()
            .filter(move |(_, record)| &record.facts.revision == revision)
            .map(|(lease, record)| (*lease, record))
    }

    /// Returns the expiry of the lease whose revision has this digest, unless it is released.
    pub(super) fn expiry_of(&self, digest: &str) -> Option<Expiry> {
        let mut records = self.0.values();
        let record = records.find(|record| {
            record.state != LeaseState::Released && record.facts.revision.digest() == digest
        });
        record.map(|record| record.facts.expiry)
    }

    /// Notes a successful login with this revision. Returns whether it is the first.
    pub(super) fn verified(&mut self, revision: &Revision) -> bool {
        let records = self.0.values_mut();
        let mut is_first = true;
        for record in records.filter(|record| &record.facts.revision == revision) {
            is_first &= !std::mem::replace(&mut record.verified, true);
        }
        is_first
    }

    /// Notes another user of the lease. Returns whether its release is no longer due.
    pub(super) fn taken(&mut self, lease: LeaseId) -> bool {
        match self.state_mut(lease) {
            Some(LeaseState::Current { users } | LeaseState::Superseded { users }) => {
                *users += 1;
                false
            }
            Some(state @ LeaseState::Queued { failures: 0 }) => {
                *state = LeaseState::Superseded { users: 1 };
                true
            }
            _ => false,
        }
    }

    /// Notes that a pool returned to the lease, if it is superseded.
    pub(super) fn used_again(&mut self, lease: LeaseId, now: Instant) {
        if let Some(record) = self.0.get_mut(&lease)
            && matches!(record.state, LeaseState::Superseded { .. })
        {
            record.used_again = Some(now);
        }
    }

    /// Returns the lease of this revision whose release was not tried.
    pub(super) fn unreleased_with<'r>(
        &'r self,
        revision: &'r Revision,
    ) -> Option<(LeaseId, &'r LeaseRecord)> {
        self.with_revision(revision).find(|(_, record)| {
            record.state.is_in_use() || record.state == LeaseState::Queued { failures: 0 }
        })
    }

    /// Returns when an unused lease is released: a verified one is kept for a while after it was
    /// superseded, or used again. That is until its expiry at most.
    pub(super) fn kept_until(&self, lease: LeaseId, kept_for: Duration, now: Instant) -> Instant {
        let Some(record) = self.0.get(&lease).filter(|record| record.verified) else {
            return now;
        };
        let until = record.used_again.unwrap_or(record.since) + kept_for;
        now.max(
            record
                .facts
                .expiry
                .mono()
                .map_or(until, |end| until.min(end)),
        )
    }

    /// Returns whether the lease is superseded and this was its last user.
    pub(super) fn returned(&mut self, lease: LeaseId, now: Instant) -> bool {
        let Some(record) = self.0.get_mut(&lease) else {
            return false;
        };
        match &mut record.state {
            LeaseState::Current { users } => {
                *users = users.saturating_sub(1);
                false
            }
            LeaseState::Superseded { users } => {
                *users = users.saturating_sub(1);
                record.used_again = record.used_again.map(|_| now);
                *users == 0
            }
            _ => false,
        }
    }

    pub(super) fn failed_releases(&self, lease: LeaseId) -> u32 {
        self.0
            .get(&lease)
            .map_or(0, |record| record.failed_releases)
    }

    pub(super) fn state_mut(&mut self, lease: LeaseId) -> Option<&mut LeaseState> {
        self.0.get_mut(&lease).map(|record| &mut record.state)
    }

    /// Returns the verified lease of this revision that was superseded within the last hour.
    pub(super) fn superseded(
        &mut self,
        revision: &Revision,
        now: Instant,
    ) -> Option<&mut LeaseRecord> {
        self.0.values_mut().find(|record| {
            &record.facts.revision == revision
                && record.verified
                && !matches!(record.state, LeaseState::Current { .. })
                && now.saturating_duration_since(record.since) < SUPERSEDED_FOR
        })
    }

    /// Makes a lease current. Returns its id, and the id of the superseded lease if it is unused.
    pub(super) fn adopt(
        &mut self,
        fetch: FetchId,
        facts: Facts,
        now: Instant,
    ) -> (LeaseId, Option<LeaseId>) {
        let mut unused = None;
        if let Some((lease, old)) = self.current_mut()
            && let LeaseState::Current { users } = old.state
        {
            old.state = LeaseState::Superseded { users };
            old.since = now;
            old.offered_again = false;
            unused = (users == 0).then_some(lease);
        }
        // A lease in use or in the release queue becomes current again. One that is released, or
        // being released, is another lease with the same revision.
        let was_verified = self
            .with_revision(&facts.revision)
            .any(|(_, record)| record.verified);
        let (again, users) = self
            .with_revision(&facts.revision)
            .find_map(|(lease, record)| match record.state {
                LeaseState::Superseded { users } => Some((lease, users)),
                LeaseState::Queued { .. } => Some((lease, 0)),
                _ => None,
            })
            .unwrap_or((LeaseId(fetch.0), 0));
        self.0.retain(|_, record| {
            record.facts.revision != facts.revision || record.state != LeaseState::Released
        });
        let mut record = LeaseRecord::new(facts, now, LeaseState::Current { users });
        record.verified = was_verified;
        self.0.insert(again, record);
        (again, unused)
    }

    /// Adds a lease that will only be released, unless its revision is known.
    pub(super) fn add_unused(
        &mut self,
        fetch: FetchId,
        facts: Facts,
        now: Instant,
    ) -> Option<LeaseId> {
        if self.with_revision(&facts.revision).next().is_some() {
            return None;
        }
        let lease = LeaseId(fetch.0);
        let record = LeaseRecord::new(facts, now, LeaseState::Superseded { users: 0 });
        self.0.insert(lease, record);
        Some(lease)
    }

    /// Adds a lease that is rehearsed, unless its revision is in use or in the release queue, which
    /// it leaves. Returns its id, and whether it was added.
    pub(super) fn add_rehearsed(
        &mut self,
        fetch: FetchId,
        facts: Facts,
        now: Instant,
    ) -> (LeaseId, bool) {
        let known = self
            .with_revision(&facts.revision)
            .find(|(_, record)| record.state.is_unreleased())
            .map(|(lease, _)| lease);
        if let Some(lease) = known {
            if let Some(record) = self.0.get_mut(&lease)
                && let LeaseState::Queued { failures } = record.state
            {
                record.failed_releases = failures;
                record.state = LeaseState::Superseded { users: 0 };
            }
            return (lease, false);
        }
        // A release that runs counts as failed, because its end is not known yet.
        let failed_releases = self
            .with_revision(&facts.revision)
            .filter_map(|(_, record)| match record.state {
                LeaseState::Releasing { failures } => Some(failures + 1),
                _ => None,
            })
            .max();
        let superseded = self
            .with_revision(&facts.revision)
            .filter(|(_, record)| record.verified)
            .map(|(_, record)| (record.since, record.offered_again))
            .max();
        self.0.retain(|_, record| {
            record.facts.revision != facts.revision || record.state != LeaseState::Released
        });
        let lease = LeaseId(fetch.0);
        let mut record = LeaseRecord::new(facts, now, LeaseState::Superseded { users: 0 });
        record.failed_releases = failed_releases.unwrap_or(0);
        // A revision that was superseded is not adopted again because it was rehearsed.
        if let Some((since, offered_again)) = superseded {
            record.verified = true;
            record.since = since;
            record.offered_again = offered_again;
        }
        self.0.insert(lease, record);
        (lease, true)
    }

    /// Returns whether another lease with the same revision is in use or in the release queue. Its
    /// backend offered the revision again during the release, which is then not retried.
    pub(super) fn has_unreleased_twin(&self, lease: LeaseId) -> bool {
        self.0.get(&lease).is_some_and(|record| {
            self.with_revision(&record.facts.revision)
                .any(|(other, twin)| other != lease && twin.state.is_unreleased())
        })
    }

    pub(super) fn is_first_attempt(&self, lease: LeaseId) -> bool {
        let record = self.0.get(&lease);
        record.is_some_and(|record| record.state == LeaseState::Queued { failures: 0 })
    }

    /// Returns the records that are queued or being released.
    pub(super) fn in_queue(&self) -> impl Iterator<Item = &LeaseRecord> {
        self.0.values().filter(|record| {
            matches!(
                record.state,
                LeaseState::Queued { .. } | LeaseState::Releasing { .. }
            )
        })
    }

    /// Returns the queued leases, how often each release failed, and whether it is given up.
    pub(super) fn queued(&self, now: Timestamp) -> Vec<(LeaseId, u32, bool)> {
        self.0
            .iter()
            .filter_map(|(lease, record)| match record.state {
                LeaseState::Queued { failures } => {
                    Some((*lease, failures, record.is_given_up(failures, now)))
                }
                _ => None,
            })
            .collect()
    }

    /// Returns every lease that is neither released nor being released.
    pub(super) fn unreleased(&self) -> Vec<LeaseId> {
        self.0
            .iter()
            .filter(|(_, record)| record.state.is_unreleased())
            .map(|(lease, _)| *lease)
            .collect()
    }

    pub(super) fn prune(&mut self, now: Instant) {
        self.0.retain(|_, record| {
            record.state != LeaseState::Released
                || now.saturating_duration_since(record.since) < SUPERSEDED_FOR
        });
        let mut released: Vec<_> = self
            .0
            .iter()
            .filter(|(_, record)| record.state == LeaseState::Released)
            .map(|(lease, record)| (record.since, *lease))
            .collect();
        released.sort();
        for (_, lease) in released.iter().rev().skip(MAX_RELEASED) {
            self.0.remove(lease);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
