//! Which revisions are not to be chosen for a while because the database rejects them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::lease::Revision;

/// The first cool-down; each further one doubles it.
const FIRST: Duration = Duration::from_secs(30);
/// The longest cool-down.
const LONGEST: Duration = Duration::from_secs(600);
/// How long after its last cool-down a revision's record is kept, so that a further rejection
/// doubles rather than starts afresh.
const MEMORY: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
struct CoolDown {
    until: Instant,
    length: Duration,
}

/// Rejected revisions and their cool-downs: 30 s, doubling to 10 min, cleared by a verification.
#[derive(Debug, Default)]
pub(crate) struct Exclusions(HashMap<Revision, CoolDown>);

impl Exclusions {
    /// The database rejected this revision. Returns whether a new cool-down began.
    pub(crate) fn reject(&mut self, revision: &Revision, now: Instant) -> bool {
        self.0.retain(|_, cool_down| now < cool_down.until + MEMORY);
        match self.0.get_mut(revision) {
            Some(cool_down) if now < cool_down.until => false,
            Some(cool_down) => {
                cool_down.length = (cool_down.length * 2).min(LONGEST);
                cool_down.until = now + cool_down.length;
                true
            }
            None => {
                self.0.insert(
                    revision.clone(),
                    CoolDown {
                        until: now + FIRST,
                        length: FIRST,
                    },
                );
                true
            }
        }
    }

    /// The database was changed since `then`: cool-downs that began before it are over. They are
    /// remembered, so that a further rejection doubles.
    pub(crate) fn lift_older(&mut self, then: Instant, now: Instant) {
        for cool_down in self
            .0
            .values_mut()
            .filter(|cool_down| cool_down.until <= then + cool_down.length)
        {
            cool_down.until = cool_down.until.min(now);
        }
    }

    /// A login with this revision worked.
    pub(crate) fn clear(&mut self, revision: &Revision) {
        self.0.remove(revision);
    }

    pub(crate) fn contains(&self, revision: &Revision, now: Instant) -> bool {
        self.0
            .get(revision)
            .is_some_and(|cool_down| now < cool_down.until)
    }

    /// What a fetch is told.
    pub(crate) fn active(&self, now: Instant) -> Arc<[Revision]> {
        let mut active: Vec<Revision> = self
            .0
            .iter()
            .filter(|(_, cool_down)| now < cool_down.until)
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
    fn a_cool_down_doubles_to_ten_minutes_and_a_verification_clears_it() {
        let mut now = tokio::time::Instant::now().into_std();
        let (mut exclusions, revision) = (Exclusions::default(), Revision::new("r"));
        for seconds in [30, 60, 120, 240, 480, 600, 600] {
            assert!(exclusions.reject(&revision, now));
            assert!(exclusions.contains(
                &revision,
                now + Duration::from_secs(seconds) - Duration::from_millis(1)
            ));
            now += Duration::from_secs(seconds);
            assert!(!exclusions.contains(&revision, now));
        }
        exclusions.clear(&revision);
        assert!(exclusions.reject(&revision, now));
        assert!(!exclusions.contains(&revision, now + FIRST));
    }

    #[test]
    fn a_change_of_the_database_ends_the_cool_downs_from_before_it() {
        let start = tokio::time::Instant::now().into_std();
        let second = Duration::from_secs(1);
        let (mut exclusions, before, after) = (
            Exclusions::default(),
            Revision::new("before"),
            Revision::new("after"),
        );
        exclusions.reject(&before, start);
        exclusions.reject(&after, start + 3 * second);
        exclusions.lift_older(start + 2 * second, start + 4 * second);
        assert!(!exclusions.contains(&before, start + 4 * second));
        assert!(exclusions.contains(&after, start + 4 * second));
        // It is remembered.
        exclusions.reject(&before, start + 5 * second);
        assert!(exclusions.contains(&before, start + 5 * second + FIRST));
    }

    proptest! {
        #[test]
        fn no_revision_is_excluded_for_ever(steps in prop::collection::vec((0u8..3, 0u64..900_000), 1..100)) {
            let mut now = tokio::time::Instant::now().into_std();
            let mut exclusions = Exclusions::default();
            for (which, step) in steps {
                now += Duration::from_millis(step);
                exclusions.reject(&Revision::new(which.to_string()), now);
            }
            prop_assert!(exclusions.active(now + LONGEST).is_empty());
        }
    }
}
