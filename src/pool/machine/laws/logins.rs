//! Law 11: failed logins of one user stay within the login budget.

use super::*;
use crate::pool::admission::logins_at_once;

fn lease(revision: u64) -> LeaseFacts {
    LeaseFacts {
        revision: Revision::new(revision.to_string()),
        account: Arc::from("app"),
        expiry: Expiry::never(),
        old_connections: OldConnections::Drain,
        connection_expiry: Expiry::never(),
    }
}

impl ModelledPool {
    /// Returns a pool with this maximum, which serves revision 0.
    fn serving(max: u32, seed: u64) -> Result<Self, TestCaseError> {
        let mut pool = Self::new(seed);
        pool.machine = PoolMachine::new(max, Duration::from_secs(60), seed, pool.now);
        pool.lease = Some(lease(0));
        pool.feed(pool.wake())?;
        pool.hand_over()?;
        Ok(pool)
    }

    /// The attempt that runs works to its end.
    fn hand_over(&mut self) -> Result<Vec<PoolEffect>, TestCaseError> {
        let attempt = self.attempt.as_ref().map_or(0, |(attempt, ..)| *attempt);
        self.feed(PoolInput::Verified { attempt })?;
        let (mode, lifetime) = (HandoverMode::Replace, None);
        let effects = self.feed(PoolInput::Opened {
            attempt,
            mode,
            lifetime,
        })?;
        self.feed(PoolInput::Reported { attempt })?;
        Ok(effects)
    }
}

proptest! {
    /// A backend may return any wrong credentials. The failed logins of one user stay within
    /// `max + 3` in the first window of 30 s, and in each later one of 60 s.
    #[test]
    fn wrong_credentials_cost_at_most_the_login_budget(
        max in 1u32..12,
        seed: u64,
        steps in prop::collection::vec((0u8..4, 0u64..4_000), 1..200),
    ) {
        let mut pool = ModelledPool::serving(max, seed)?;
        pool.feed(PoolInput::LoginRejected { generation: 1 })?;
        let (mut window, mut failed) = (pool.now.mono() + Duration::from_secs(30), 1);
        for (kind, millis) in steps {
            pool.pass(Duration::from_millis(millis));
            if kind == 0 {
                pool.revisions += 1;
                pool.lease = Some(lease(pool.revisions));
            } else if kind == 1 {
                let revision = Revision::new(pool.revisions.to_string());
                pool.feed(PoolInput::VerifiedElsewhere { revision, account: Arc::from("app") })?;
            }
            pool.feed(pool.wake())?;
            if let Some((attempt, ..)) = pool.attempt {
                pool.feed(PoolInput::Failed { attempt, kind: ConnectErrorKind::Rejected })?;
                if pool.now.mono() >= window {
                    (window, failed) = (pool.now.mono() + Duration::from_secs(60), 0);
                }
                failed += 1;
                prop_assert!(failed <= max + 3, "{failed}");
            }
        }
    }

    /// As many callers as may log in are rejected at the same moment, before, between and after
    /// attempts with other leases.
    #[test]
    fn callers_and_attempts_together_cost_at_most_the_login_budget(
        max in 1u32..24,
        seed: u64,
        steps in prop::collection::vec((0u8..8, 0u64..4_000), 1..200),
    ) {
        let mut pool = ModelledPool::serving(max, seed)?;
        let mut limited = None;
        for (kind, millis) in steps {
            pool.pass(Duration::from_millis(millis));
            let (now, generation) = (pool.now.mono(), pool.current());
            let mut effects = Vec::new();
            match kind {
                0 => {
                    pool.revisions += 1;
                    pool.lease = Some(lease(pool.revisions));
                }
                1 if pool.machine.current().is_some_and(Active::is_accepted) => {
                    let width = limited.filter(|(_, until)| now < *until);
                    let width = width.map_or(logins_at_once(max), |(width, _)| width);
                    for _ in 0..width {
                        effects.extend(pool.feed(PoolInput::LoginRejected { generation })?);
                    }
                }
                2 if pool.attempt.is_some() => effects.extend(pool.hand_over()?),
                3.. => if let Some((attempt, ..)) = pool.attempt {
                    let kind = ConnectErrorKind::Rejected;
                    effects.extend(pool.feed(PoolInput::Failed { attempt, kind })?);
                },
                _ => {}
            }
            effects.extend(pool.feed(pool.wake())?);
            for effect in effects {
                match effect {
                    PoolEffect::Publish(publication) => limited = publication.limited,
                    PoolEffect::LimitLogins { width, until } => limited = Some((width, until)),
                    _ => {}
                }
            }
            let spent = pool.machine.budget.spent("app");
            prop_assert!(spent <= max + 3, "{spent} of {}", max + 3);
        }
    }
}
