//! Probes of connections.

use super::*;

#[test]
fn connections_of_a_lease_that_ends_them_are_probed_every_30_seconds() {
    let now = Timestamp::now();
    let r1 = ending("r1", now, 900);
    let mut pool = TestPool::serving(&r1, 0);
    let generation = 1;
    for _ in 0..3 {
        let (pause, effects) = pool.wake_when_due(&r1);
        assert_eq!(
            (pause.as_secs(), effects.last()),
            (30, Some(&PoolEffect::Probe { generation }))
        );
        assert_eq!(pool.machine.next_deadline(), None, "one probe at a time");
        let result = ProbeResult::Passed;
        pool.feed(PoolInput::Probed { generation, result });
    }
    assert_eq!(
        TestPool::serving(&lease("r1"), 0).machine.next_deadline(),
        None
    );
}

#[test]
fn unverified_connections_cause_probes_every_10_seconds_until_a_late_one_passes() {
    let now = Timestamp::now();
    let r1 = ending("r1", now, 900);
    let mut pool = TestPool::serving(&r1, 5);
    let generation = 1;
    let unverified = PoolInput::Unverified { generation };
    let passed = PoolInput::Probed {
        generation,
        result: ProbeResult::Passed,
    };
    let effects = pool.feed(unverified.clone());
    assert_eq!(
        effects,
        [PoolEffect::ProbeBeforeUse { generation }, PoolEffect::Wake]
    );
    let probe = PoolEffect::Probe { generation };
    assert!(pool.wake(&r1).contains(&probe), "at once");
    assert_eq!(
        pool.feed(passed.clone()),
        [],
        "it began too early to verify them"
    );
    assert_eq!(pool.wake_when_due(&r1).0.as_secs(), 10);
    pool.feed(unverified);
    assert_eq!(pool.feed(passed.clone()), [], "another one came meanwhile");
    assert_eq!(pool.wake_when_due(&r1).0.as_secs(), 10);
    let result = ProbeResult::Unknown;
    assert_eq!(pool.feed(PoolInput::Probed { generation, result }), []);
    assert_eq!(pool.wake_when_due(&r1).0.as_secs(), 10);
    assert_eq!(pool.feed(passed), [PoolEffect::StopProbing { generation }]);
    assert_eq!(pool.wake_when_due(&r1).0.as_secs(), 30);
}

#[test]
fn a_rejected_probe_ends_its_generation_alone() {
    let now = Timestamp::now();
    let (r1, r2) = (ending("r1", now, 900), ending("r2", now, 900));
    let rejected = PoolInput::Probed {
        generation: 1,
        result: ProbeResult::Rejected,
    };
    let mut pool = TestPool::serving(&r1, 0);
    pool.wake_when_due(&r1);
    assert_eq!(pool.feed(rejected.clone()), [REJECT, PoolEffect::Wake]);
    assert_eq!(pool.feed(rejected.clone()), [], "it was handled");
    let mut pool = TestPool::serving(&r1, 0);
    pool.wake_when_due(&r1);
    pool.hand_over(&r2, HandoverMode::Replace);
    assert_eq!(pool.feed(rejected), []);
}

#[test]
fn a_rejected_login_in_a_probes_place_counts_as_a_failed_login() {
    let now = Timestamp::now();
    let r1 = ending("r1", now, 900);
    for (result, limited) in [
        (ProbeResult::Rejected, false),
        (ProbeResult::LoginRejected, true),
    ] {
        let mut pool = TestPool::serving(&r1, 0);
        pool.wake_when_due(&r1);
        let generation = 1;
        pool.feed(PoolInput::Probed { generation, result });
        let logins = pool
            .machine
            .budget
            .logins_at_once(&r1.account, 0, pool.now.mono());
        assert_eq!(logins.is_some(), limited);
    }
}

#[test]
fn nothing_is_probed_once_the_lease_has_expired() {
    let start = Timestamp::now();
    let r1 = ending("r1", start, 20);
    let mut pool = TestPool::serving(&r1, 0);
    for seconds in 0..120 {
        pool.feed(PoolInput::Unverified { generation: 1 });
        let effects = pool.feed(PoolInput::Wake { lease: None });
        let probe = PoolEffect::Probe { generation: 1 };
        assert!(seconds < 20 || !effects.contains(&probe), "{seconds} s");
        pool.feed(PoolInput::Probed {
            generation: 1,
            result: ProbeResult::Unknown,
        });
        let next = pool.machine.next_deadline();
        assert!(next.is_none_or(|next| next > pool.now.mono()), "{next:?}");
        pool.wait(1);
    }
}

#[test]
fn a_lease_that_was_extended_after_it_had_expired_is_probed_at_once() {
    let now = Timestamp::now();
    let r1 = ending("r1", now, 20);
    let mut pool = TestPool::serving(&r1, 60);
    pool.wake(&r1);
    let effects = pool.wake(&ending("r1", now, 900));
    assert!(effects.contains(&PoolEffect::Probe { generation: 1 }));
    assert_eq!(pool.machine.next_deadline(), None);
}

#[test]
fn a_second_result_of_an_older_probe_ends_no_later_one() {
    let now = Timestamp::now();
    let (r1, r2) = (ending("r1", now, 900), ending("r2", now, 900));
    let passed = PoolInput::Probed {
        generation: 1,
        result: ProbeResult::Passed,
    };
    let mut pool = TestPool::serving(&r1, 0);
    pool.wake_when_due(&r1);
    pool.feed(passed.clone());
    pool.hand_over(&r2, HandoverMode::Replace);
    let (_, effects) = pool.wake_when_due(&r2);
    assert!(effects.contains(&PoolEffect::Probe { generation: 2 }));
    pool.feed(passed);
    assert_eq!(pool.machine.next_deadline(), None, "one probe at a time");
}
