//! Laws that hold whatever the order of inputs.

mod logins;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::input::LeaseFacts;
use super::*;
use crate::expiry::Expiry;
use crate::lease::OldConnections;
use crate::report::HandoverMode;

/// The test's record of the attempt that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum AttemptSeen {
    Verifying,
    Verified,
    Published,
}

/// The test's record of a generation.
#[derive(Debug)]
struct PublishedModel {
    revision: Revision,
    ends: bool,
    is_rejected: bool,
    last_probe: Option<Instant>,
}

/// A machine, and a model of its state.
struct ModelledPool {
    machine: PoolMachine,
    now: Timestamp,
    lease: Option<LeaseFacts>,
    revisions: u64,
    attempt: Option<(u64, Revision, Purpose, AttemptSeen)>,
    generations: BTreeMap<u64, PublishedModel>,
    /// Leases that were not returned.
    in_use: BTreeSet<u64>,
    /// Generations that drain, and whether a task works on each.
    draining: BTreeMap<u64, bool>,
    abandoned: BTreeSet<u64>,
    is_closed: bool,
    /// Whether a wake was requested that has not come yet.
    wakes: bool,
}

type Checked = Result<(), TestCaseError>;

impl ModelledPool {
    fn new(seed: u64) -> Self {
        let now = Timestamp::now();
        Self {
            machine: PoolMachine::new(4, Duration::from_secs(60), seed, now),
            now,
            lease: None,
            revisions: 0,
            attempt: None,
            generations: BTreeMap::new(),
            in_use: BTreeSet::new(),
            draining: BTreeMap::new(),
            abandoned: BTreeSet::new(),
            is_closed: false,
            wakes: false,
        }
    }

    fn current(&self) -> u64 {
        self.generations.keys().next_back().copied().unwrap_or(0)
    }

    fn pass(&mut self, time: Duration) {
        self.now = Timestamp::at(self.now.wall() + time, self.now.mono() + time);
    }

    /// Returns what the provider, a task or a caller might report next.
    fn input(&mut self, kind: u8, argument: u8) -> PoolInput {
        let current = self.current();
        // Mostly the current generation or attempt, sometimes an earlier one.
        let generation = current.saturating_sub(u64::from(argument.is_multiple_of(4)));
        let attempt = self.attempt.as_ref().map_or(0, |(attempt, ..)| *attempt);
        let attempt = attempt.saturating_sub(u64::from(argument.is_multiple_of(8)));
        let drain = self.draining.keys().next().copied().unwrap_or(generation);
        match kind {
            0..=2 => {
                let revision = if argument.is_multiple_of(3) {
                    self.revisions.saturating_sub(1)
                } else {
                    self.revisions += 1;
                    self.revisions
                };
                let ends = argument.is_multiple_of(2);
                let expiry = Expiry::after(self.now, Duration::from_secs(u64::from(argument) + 1));
                self.lease = (argument > 10).then(|| LeaseFacts {
                    revision: Revision::new(revision.to_string()),
                    account: Arc::from("app"),
                    expiry,
                    connection_expiry: expiry,
                    old_connections: if ends {
                        OldConnections::EndWithLease
                    } else {
                        OldConnections::Drain
                    },
                });
                self.wake()
            }
            3..=6 => PoolInput::Verified { attempt },
            7..=10 => PoolInput::Opened {
                attempt,
                mode: if argument.is_multiple_of(3) {
                    HandoverMode::InPlace
                } else {
                    HandoverMode::Replace
                },
                lifetime: None,
            },
            11..=12 => PoolInput::Reported { attempt },
            13 => PoolInput::Failed {
                attempt,
                kind: [
                    ConnectErrorKind::Rejected,
                    ConnectErrorKind::Unreachable,
                    ConnectErrorKind::Other,
                ][usize::from(argument % 3)],
            },
            14 => PoolInput::Lost { attempt },
            15 => PoolInput::CallerRejected { generation },
            16 => PoolInput::LoginRejected { generation },
            17 => PoolInput::LoginUnknown { generation },
            18 => PoolInput::LoginWorked { generation },
            19 => PoolInput::Unverified { generation },
            20 => PoolInput::Probed {
                generation,
                result: [
                    ProbeResult::Passed,
                    ProbeResult::Passed,
                    ProbeResult::Unknown,
                    ProbeResult::Rejected,
                    ProbeResult::LoginRejected,
                ][usize::from(argument % 5)],
            },
            21 => PoolInput::StartDrains,
            22 => PoolInput::DrainOverdue {
                generation: drain,
                connections: u32::from(argument % 2),
            },
            23 => {
                self.draining.entry(drain).and_modify(|task| *task = false);
                PoolInput::DrainLost { generation: drain }
            }
            24 => PoolInput::Drained { generation: drain },
            25 => PoolInput::VerifiedElsewhere {
                revision: Revision::new(self.revisions.to_string()),
                account: Arc::from("app"),
            },
            26 if argument == 0 => PoolInput::Close,
            27 => match self.machine.previous_lease(None) {
                Ok(lease) => PoolInput::RollBack {
                    lease: lease.clone(),
                    until: lease.expiry.earlier_by(Duration::from_secs(2)),
                },
                Err(_) => PoolInput::Hold(None),
            },
            28 if argument.is_multiple_of(2) => {
                PoolInput::Hold((argument > 100).then(|| u64::from(argument / 100)))
            }
            28 => PoolInput::AbandonRollBack,
            _ => self.wake(),
        }
    }

    fn wake(&self) -> PoolInput {
        PoolInput::Wake {
            lease: self.lease.clone(),
        }
    }

    /// Feeds the machine, and checks each effect against the model.
    fn feed(&mut self, input: PoolInput) -> Result<Vec<PoolEffect>, TestCaseError> {
        let effects = self.machine.handle(input.clone(), self.now);
        let before = self.current();
        self.wakes &= !matches!(input, PoolInput::Wake { .. });
        self.wakes |= effects.contains(&PoolEffect::Wake);
        match &input {
            PoolInput::Close if !self.is_closed => {
                self.is_closed = true;
                if before > 0 {
                    self.draining.insert(before, false);
                }
            }
            PoolInput::Lost { attempt } | PoolInput::Failed { attempt, .. } => {
                self.attempt.take_if(|(running, ..)| running == attempt);
            }
            PoolInput::Reported { attempt } => {
                self.attempt.take_if(|(running, ..)| running == attempt);
            }
            PoolInput::Verified { attempt } => {
                let machine = &self.machine;
                self.attempt.take_if(|(running, revision, purpose, seen)| {
                    running == attempt
                        && (*purpose == Purpose::Check || is_left_out(machine, revision))
                        && *seen == AttemptSeen::Verifying
                });
            }
            PoolInput::Opened { attempt, mode, .. } => {
                let (machine, is_closed) = (&self.machine, self.is_closed);
                self.attempt.take_if(|(running, revision, _, seen)| {
                    let replaces = *mode == HandoverMode::Replace;
                    running == attempt
                        && (is_closed || replaces && is_left_out(machine, revision))
                        && *seen == AttemptSeen::Verified
                });
            }
            _ => {}
        }
        for effect in &effects {
            self.check(&input, effect, before)?;
        }
        let next = self.machine.next_deadline();
        if matches!(input, PoolInput::Wake { .. }) {
            prop_assert!(next.is_none_or(|next| next > self.now.mono()), "{:?}", next);
        }
        Ok(effects)
    }

    fn check(&mut self, input: &PoolInput, effect: &PoolEffect, before: u64) -> Checked {
        match effect {
            PoolEffect::StartAttempt {
                attempt,
                revision,
                purpose,
            } => {
                let is_wake = matches!(input, PoolInput::Wake { .. });
                prop_assert!(is_wake && !self.is_closed && self.attempt.is_none());
                if !self.machine.rolls_back_to(revision) {
                    let lease = self
                        .lease
                        .as_ref()
                        .filter(|lease| lease.revision == *revision);
                    prop_assert!(lease.is_some_and(|lease| !lease.expiry.is_expired(self.now)));
                }
                let is_served = self
                    .generations
                    .get(&before)
                    .is_some_and(|active| active.revision == *revision && !active.is_rejected);
                prop_assert_eq!(*purpose == Purpose::Check, is_served);
                self.attempt = Some((*attempt, revision.clone(), *purpose, AttemptSeen::Verifying));
            }
            PoolEffect::Open => match (&mut self.attempt, input) {
                (Some((running, _, Purpose::HandOver, seen)), PoolInput::Verified { attempt }) => {
                    prop_assert_eq!(&*seen, &AttemptSeen::Verifying);
                    prop_assert_eq!(&*running, attempt);
                    *seen = AttemptSeen::Verified;
                }
                other => prop_assert!(false, "{other:?}"),
            },
            PoolEffect::Publish(publication) => {
                self.published(input, publication.generation, before)?
            }
            PoolEffect::Reject { generation } => {
                prop_assert_eq!(*generation, before, "a stale rejection");
                prop_assert!(!self.is_closed);
                let active = self.generations.get_mut(generation);
                let was = active.map(|active| std::mem::replace(&mut active.is_rejected, true));
                prop_assert_eq!(was, Some(false), "rejected once");
            }
            PoolEffect::ReportRejected { .. }
            | PoolEffect::ReportServing { .. }
            | PoolEffect::Extend { .. } => {
                prop_assert!(!self.is_closed);
            }
            PoolEffect::Probe { generation } => {
                let (now, is_closed) = (self.now.mono(), self.is_closed);
                prop_assert_eq!(*generation, before);
                let Some(active) = self.generations.get_mut(generation) else {
                    return Err(TestCaseError::fail("no such generation"));
                };
                prop_assert!(!is_closed && active.ends && !active.is_rejected);
                if let Some(last) = active.last_probe.replace(now) {
                    prop_assert!(now - last >= Duration::from_secs(10));
                }
            }
            PoolEffect::StartDrain { generation, .. } => {
                let task = self.draining.insert(*generation, true);
                prop_assert_eq!(task, Some(false), "one task for each drain");
            }
            PoolEffect::ReportAbandoned { generation, .. } => {
                prop_assert!(self.draining.contains_key(generation));
                prop_assert!(self.abandoned.insert(*generation), "reported once");
            }
            PoolEffect::ReturnLease { generation } => {
                prop_assert!(self.in_use.remove(generation), "returned once");
                match input {
                    PoolInput::Drained { .. } => {
                        prop_assert!(self.draining.remove(generation).is_some());
                    }
                    PoolInput::Opened { mode, .. } => {
                        prop_assert_eq!(*mode, HandoverMode::InPlace);
                        prop_assert_eq!(*generation, before);
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            PoolEffect::RollBackFailed => prop_assert!(!self.machine.is_rolled_back()),
            PoolEffect::ReportRollBackEnd => {
                let is_wake = matches!(input, PoolInput::Wake { .. });
                prop_assert!(is_wake);
            }
            PoolEffect::LimitLogins { .. }
            | PoolEffect::Wake
            | PoolEffect::ReportFailure { .. }
            | PoolEffect::NotifyPoolsOfLogin { .. }
            | PoolEffect::ProbeBeforeUse { .. }
            | PoolEffect::StopProbing { .. } => {}
        }
        Ok(())
    }

    /// A publication needs an attempt that was verified and opened, and is not left out.
    fn published(&mut self, input: &PoolInput, generation: u64, before: u64) -> Checked {
        let PoolInput::Opened { mode, .. } = input else {
            return Err(TestCaseError::fail("published without a pool"));
        };
        let Some((_, revision, _, seen)) = &mut self.attempt else {
            return Err(TestCaseError::fail("published without an attempt"));
        };
        prop_assert_eq!(
            &*seen,
            &AttemptSeen::Verified,
            "published without a verification"
        );
        *seen = AttemptSeen::Published;
        prop_assert!(!self.is_closed && generation == before + 1);
        if let Some(old) = self.generations.get(&before) {
            prop_assert!(old.revision != *revision || old.is_rejected);
            if *mode == HandoverMode::Replace {
                self.draining.insert(before, false);
            }
        }
        let ends = self
            .machine
            .current()
            .is_some_and(|active| active.lease.old_connections == OldConnections::EndWithLease);
        let published = PublishedModel {
            revision: revision.clone(),
            ends,
            is_rejected: false,
            last_probe: None,
        };
        self.generations.insert(generation, published);
        self.in_use.insert(generation);
        Ok(())
    }
}

/// Returns whether a rollback that is under way leaves this revision out.
fn is_left_out(machine: &PoolMachine, revision: &Revision) -> bool {
    let is_pending = machine.has_rollback() && !machine.is_rolled_back();
    is_pending && !machine.rolls_back_to(revision)
}

proptest! {
    /// Publication follows verification, and an equal revision is not handed over. Leases are
    /// returned once and after the drain. Nothing starts after the close.
    #[test]
    fn the_laws_hold_in_any_order(
        seed: u64,
        steps in prop::collection::vec((0u8..30, any::<u8>(), 0u64..20_000), 1..150),
    ) {
        let mut pool = ModelledPool::new(seed);
        for (kind, argument, millis) in steps {
            pool.pass(Duration::from_millis(millis));
            let input = pool.input(kind, argument);
            pool.feed(input)?;
            // A deadline that has passed means that something is due. A wake that is requested
            // brings the provider's current lease instead.
            let is_due = pool.machine.next_deadline().is_some_and(|at| at <= pool.now.mono());
            if is_due {
                let wakes = pool.wakes;
                let effects = pool.feed(pool.wake())?;
                let acts = |effect| !matches!(effect, PoolEffect::ReportServing { .. });
                prop_assert!(wakes || effects.into_iter().any(acts), "due, but no effect");
            }
        }
        pool.feed(PoolInput::Close)?;
        for generation in pool.draining.clone().into_keys() {
            pool.feed(PoolInput::Drained { generation })?;
        }
        prop_assert!(pool.in_use.is_empty(), "not returned: {:?}", pool.in_use);
        prop_assert!(pool.machine.drains().is_empty());
    }
}
