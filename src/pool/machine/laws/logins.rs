//! Law 11: failed logins of one user stay within the login budget.

use super::*;

proptest! {
    /// A backend may return any wrong credentials. The failed logins of one user stay within
    /// `max + 3` in the first window of 30 s, and in each later one of 60 s.
    #[test]
    fn wrong_credentials_cost_at_most_the_login_budget(
        max in 1u32..12,
        seed: u64,
        steps in prop::collection::vec((0u8..4, 0u64..4_000), 1..200),
    ) {
        let mut pool = ModelledPool::new(seed);
        pool.machine = PoolMachine::new(max, Duration::from_secs(60), seed, pool.now);
        let lease = |revision: u64| LeaseFacts {
            revision: Revision::new(revision.to_string()),
            account: Arc::from("app"),
            expiry: Expiry::never(),
            old_connections: OldConnections::Drain,
            connection_expiry: Expiry::never(),
        };
        pool.lease = Some(lease(0));
        pool.feed(pool.wake())?;
        pool.feed(PoolInput::Verified { attempt: 1 })?;
        let (mode, lifetime) = (HandoverMode::Replace, None);
        pool.feed(PoolInput::Opened { attempt: 1, mode, lifetime })?;
        pool.feed(PoolInput::Reported { attempt: 1 })?;
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
}
