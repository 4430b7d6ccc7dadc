//! Rejected revisions, and how long fetch requests list them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::lease::Revision;

/// First exclusion; each further one doubles it.
const FIRST: Duration = Duration::from_secs(30);
/// Longest exclusion.
const MAX_EXCLUSION: Duration = Duration::from_secs(600);
/// Time for which a revision is remembered after its last exclusion, so that a further rejection
/// doubles it.
const MEMORY: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
struct Exclusion {
    until: Instant,
    length: Duration,
    /// Time of the last rejection.
    rejected: Instant,
}

/// Rejected revisions and their exclusions: 30 s, doubling to 10 min, cleared by a successful
/// login.
#[derive(Debug, Default)]
pub(super) struct Exclusions(HashMap<Revision, Exclusion>);

impl Exclusions {
    /// Notes that the database rejected this revision. Returns whether a new exclusion began.
    /// `current` is remembered until a login with it succeeds.
    pub(super) fn reject(
        &mut self,
        revision: &Revision,
        current: Option<&Revision>,
        now: Instant,
    ) -> bool {
        self.0.retain(|revision, exclusion| {
            now < exclusion.until + MEMORY || Some(revision) == current
        });
        let Some(exclusion) = self.0.get_mut(revision) else {
            let exclusion = Exclusion {
                until: now + FIRST,
                length: FIRST,
                rejected: now,
            };
            self.0.insert(revision.clone(), exclusion);
            return true;
        };
        exclusion.rejected = now;
        let is_new = now >= exclusion.until;
        if is_new {
            exclusion.length = (exclusion.length * 2).min(MAX_EXCLUSION);
            exclusion.until = now + exclusion.length;
        }
        is_new
    }

    /// Ends the exclusions that began before `then`, because the database has changed since. They
    /// are remembered, so that a further rejection doubles them.
    pub(super) fn lift_older(&mut self, then: Instant, now: Instant) {
        for exclusion in self.0.values_mut() {
            if exclusion.until <= then + exclusion.length {
                exclusion.until = exclusion.until.min(now);
            }
        }
    }

    /// Forgets the rejections of this revision.
    pub(super) fn clear(&mut self, revision: &Revision) {
        self.0.remove(revision);
    }

    /// Returns whether the lease of this revision is rejected. It became current at `since`.
    pub(super) fn is_rejected(&self, revision: &Revision, since: Instant, now: Instant) -> bool {
        self.0
            .get(revision)
            .is_some_and(|exclusion| now < exclusion.until || exclusion.rejected >= since)
    }

    /// Returns the revisions that are excluded now.
    pub(super) fn active(&self, now: Instant) -> Arc<[Revision]> {
        let mut active: Vec<Revision> = self
            .0
            .iter()
            .filter(|(_, exclusion)| now < exclusion.until)
            .map(|(revision, _)| revision.clone())
            .collect();
        active.sort();
        active.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_exclusion_doubles_to_ten_minutes_until_a_successful_login() {
        let mut now = tokio::time::Instant::now().into_std();
        let (mut exclusions, revision) = (Exclusions::default(), Revision::new("r"));
        for seconds in [30, 60, 120, 240, 480, 600, 600] {
            assert!(exclusions.reject(&revision, None, now));
            assert!(
                exclusions
                    .active(now + Duration::from_secs(seconds) - Duration::from_millis(1))
                    .contains(&revision)
            );
            now += Duration::from_secs(seconds);
            assert!(!exclusions.active(now).contains(&revision));
        }
        exclusions.clear(&revision);
        assert!(exclusions.reject(&revision, None, now));
        assert!(!exclusions.active(now + FIRST).contains(&revision));
    }

    #[test]
    fn a_database_change_ends_earlier_exclusions() {
        let start = tokio::time::Instant::now().into_std();
        let second = Duration::from_secs(1);
        let (mut exclusions, before, after) = (
            Exclusions::default(),
            Revision::new("before"),
            Revision::new("after"),
        );
        exclusions.reject(&before, None, start);
        exclusions.reject(&after, None, start + 3 * second);
        exclusions.lift_older(start + 2 * second, start + 4 * second);
        assert!(!exclusions.active(start + 4 * second).contains(&before));
        assert!(exclusions.active(start + 4 * second).contains(&after));
        // The earlier exclusion is remembered.
        exclusions.reject(&before, None, start + 5 * second);
        assert!(
            exclusions
                .active(start + 5 * second + FIRST)
                .contains(&before)
        );
    }

    proptest! {
        #[test]
        fn every_exclusion_ends(steps in prop::collection::vec((0u8..3, 0u64..900_000), 1..100)) {
            let mut now = tokio::time::Instant::now().into_std();
            let mut exclusions = Exclusions::default();
            for (which, step) in steps {
                now += Duration::from_millis(step);
                exclusions.reject(&Revision::new(which.to_string()), None, now);
            }
            prop_assert!(exclusions.active(now + MAX_EXCLUSION).is_empty());
        }
    }
}
