//! Each transition of the machine.

#![expect(clippy::panic, reason = "a test fails by panicking")]

mod checks;
mod drains;
mod handovers;
mod probes;
mod rejections;
mod retries;
mod roll_backs;

use super::active::Standing;
use super::input::{LeaseFacts, Publication};
use super::*;
use crate::expiry::Expiry;
use crate::lease::OldConnections;
use crate::next_attempt::NextAttempt;
use crate::pool::settings::HandoverPolicy;
use crate::report::HandoverMode;

const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// A machine and its clock.
struct TestPool {
    machine: PoolMachine,
    now: Timestamp,
    attempt: u64,
}

fn after(now: Timestamp, time: Duration) -> Timestamp {
    Timestamp::at(now.wall() + time, now.mono() + time)
}

fn lease(revision: &str) -> LeaseFacts {
    LeaseFacts {
        revision: Revision::new(revision),
        account: Arc::from("app@db"),
        expiry: Expiry::never(),
        old_connections: OldConnections::Drain,
        connection_expiry: Expiry::never(),
    }
}

/// Returns a lease that ends its connections, and expires after this time.
fn ending(revision: &str, now: Timestamp, seconds: u64) -> LeaseFacts {
    let expiry = Expiry::after(now, Duration::from_secs(seconds));
    LeaseFacts {
        expiry,
        old_connections: OldConnections::EndWithLease,
        connection_expiry: expiry,
        ..lease(revision)
    }
}

fn seeded(seed: u64) -> TestPool {
    let now = Timestamp::now();
    TestPool {
        machine: PoolMachine::new(10, DRAIN_TIMEOUT, seed, now),
        now,
        attempt: 0,
    }
}

impl TestPool {
    fn new() -> Self {
        seeded(1)
    }

    /// Returns a pool that has served this lease for some seconds.
    fn serving(lease: &LeaseFacts, seconds: u64) -> Self {
        let mut pool = Self::new();
        pool.hand_over(lease, HandoverMode::Replace);
        pool.wait(seconds);
        pool
    }

    fn wait(&mut self, seconds: u64) {
        self.now = after(self.now, Duration::from_secs(seconds));
    }

    fn feed(&mut self, input: PoolInput) -> Vec<PoolEffect> {
        let effects = self.machine.handle(input, self.now);
        for effect in &effects {
            if let PoolEffect::StartAttempt { attempt, .. } = effect {
                self.attempt = *attempt;
            }
        }
        effects
    }

    fn wake(&mut self, lease: &LeaseFacts) -> Vec<PoolEffect> {
        let lease = Some(lease.clone());
        self.feed(PoolInput::Wake { lease })
    }

    /// Wakes it at its next deadline. Returns the pause.
    fn wake_when_due(&mut self, lease: &LeaseFacts) -> (Duration, Vec<PoolEffect>) {
        let Some(at) = self.machine.next_deadline() else {
            panic!("nothing is planned");
        };
        let pause = at.saturating_duration_since(self.now.mono());
        self.now = after(self.now, pause);
        (pause, self.wake(lease))
    }

    fn verified(&mut self) -> Vec<PoolEffect> {
        let attempt = self.attempt;
        self.feed(PoolInput::Verified { attempt })
    }

    fn opened(&mut self, mode: HandoverMode) -> Vec<PoolEffect> {
        let attempt = self.attempt;
        self.feed(PoolInput::Opened {
            attempt,
            mode,
            lifetime: Some(Duration::from_secs(100)),
        })
    }

    fn failed(&mut self, kind: ConnectErrorKind) -> Vec<PoolEffect> {
        let attempt = self.attempt;
        self.feed(PoolInput::Failed { attempt, kind })
    }

    fn hand_over(&mut self, lease: &LeaseFacts, mode: HandoverMode) -> Vec<PoolEffect> {
        self.wake(lease);
        self.verified();
        let effects = self.opened(mode);
        let attempt = self.attempt;
        self.feed(PoolInput::Reported { attempt });
        effects
    }
}

fn started(effects: &[PoolEffect]) -> Option<Purpose> {
    effects.iter().find_map(|effect| match effect {
        PoolEffect::StartAttempt { purpose, .. } => Some(*purpose),
        _ => None,
    })
}

fn reported(effects: &[PoolEffect]) -> Vec<&str> {
    let report = |effect: &'_ PoolEffect| matches!(effect, PoolEffect::ReportRejected { .. });
    effects
        .iter()
        .filter(|effect| report(effect))
        .map(|effect| match effect {
            PoolEffect::ReportRejected { revision } => revision.as_str(),
            _ => "",
        })
        .collect()
}

const REJECT: PoolEffect = PoolEffect::Reject { generation: 1 };
