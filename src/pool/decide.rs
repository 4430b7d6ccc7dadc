//! What a pool's slot knows, and what follows from it: no I/O, no clock, no task.

use std::time::{Duration, Instant};

use super::drain::Drains;
use super::logins::Logins;
use crate::clock::Moment;
use crate::error::{Fault, FaultKind};
use crate::expiry::Expiry;
use crate::lease::{Lease, Revision, Sessions};
use crate::outlook::Outlook;
use crate::provider::{Loan, schedule};
use crate::rotation::HandoverReport;

/// The longest pause between proofs that fail for another reason than a refusal.
const LONGEST_RETRY: Duration = Duration::from_secs(15);
/// How often one idle session is asked whether its role still exists, when the lease ends its sessions.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// The same after a statement failed as it would without the role, at most; of each generation the first one counts at once.
const PROBE_SUSPECT: Duration = Duration::from_secs(10);
/// What is served is proved again after callers gave up waiting for a session, at most this often: their log-ins may be refused later than they wait.
const UNHEARD_EVERY: Duration = Duration::from_secs(10);
/// After so many refused proofs of a candidate, three seconds after the first, the provider is told even though another lease serves, where that one ends its
/// sessions. Less may be a replica that has not heard of the user yet.
const HOPELESS: usize = 3;
/// A clock jump of more than this makes every proof count as unlooked-at.
const JUMP: Duration = Duration::from_secs(60);

/// Everything that must outlive a crash of the actor.
pub(crate) struct State<S: Send + Sync + 'static, P> {
    /// Nothing new starts: the pool is being removed, or the supervisor shut down.
    pub(crate) closing: bool,
    pub(crate) serving: Option<Serving<S>>,
    pub(crate) attempt: Option<Attempt>,
    retry: Option<Retry>,
    pub(crate) logins: Logins,
    pub(crate) drains: Drains<S, P>,
    pub(crate) last_fault: Option<Fault>,
    pub(crate) last_handover: Option<HandoverReport>,
    /// A caller was refused, and the actor has not looked since.
    pub(crate) noted: bool,
    suspect: bool,
    probing: bool,
    last_probe: Option<Instant>,
    recheck: bool,
    last_unheard: Option<Instant>,
    last_beat: Moment,
    next_proof: Option<Instant>,
    attempts: u64,
}

/// What callers are served.
pub(crate) struct Serving<S: Send + Sync + 'static> {
    pub(crate) number: u64,
    pub(crate) loan: Loan<S>,
    pub(crate) expiry: Expiry,
    pub(crate) proved: Moment,
    pub(crate) refused: bool,
    /// How many callers may log in at a time.
    width: u32,
}

impl<S: Send + Sync + 'static> Serving<S> {
    pub(crate) fn revision(&self) -> &Revision {
        self.loan.lease.revision()
    }

    fn ends_its_sessions(&self) -> bool {
        self.loan.lease.session_fate() == Sessions::EndWithLease
    }
}

/// A proof, and the handover that follows it.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) number: u64,
    pub(crate) revision: Revision,
    /// Proves what is served anyway, and publishes nothing if that works.
    pub(crate) check_only: bool,
}

#[derive(Debug)]
struct Retry {
    revision: Revision,
    at: Instant,
    failures: u32,
}

/// What the shell is to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Prove the held lease and hand over to it.
    HandOver { attempt: u64, check_only: bool },
    /// Tell callers of the held lease's later death.
    Extend(Expiry),
    /// The database refuses this revision: tell the provider.
    Report(Revision),
    /// Ask an idle session whether its role still exists.
    Probe,
    /// What is held is what is served: nothing is awaited from this pool.
    Settled,
}

impl<S: Send + Sync + 'static, P> State<S, P> {
    pub(crate) fn new(max_sessions: u32, now: Moment) -> Self {
        Self {
            closing: false,
            serving: None,
            attempt: None,
            retry: None,
            logins: Logins::new(max_sessions),
            drains: Drains::default(),
            last_fault: None,
            last_handover: None,
            noted: false,
            suspect: false,
            probing: false,
            last_probe: None,
            recheck: false,
            last_unheard: None,
            last_beat: now,
            next_proof: None,
            attempts: 0,
        }
    }

    /// The database refused callers of the generation that is served.
    pub(crate) fn note_refused(&mut self, number: u64, fault: Fault, held: Option<&Revision>, now: Instant) {
        // Another may have been published since it was noted.
        let Some(serving) = self.serving.as_mut().filter(|serving| serving.number == number) else { return };
        if std::mem::replace(&mut serving.refused, true) {
            return;
        }
        let revision = serving.revision().clone();
        self.last_fault = Some(fault);
        // All who might have logged in at the time count: some were cancelled in the middle of it, and their refusal is nobody's error.
        self.logins.callers_refused(&revision, serving.width, now);
        if let Some(candidate) = held.filter(|held| **held != revision) {
            // What could not be proved a moment ago may be what the database has been changed to.
            self.logins.news(candidate, now);
            self.retry = None;
        }
    }

    pub(crate) fn note_suspect(&mut self) {
        self.suspect = true;
    }

    /// A caller gave up while it waited for a session of the generation that is served. Answers whether there is something to do.
    pub(crate) fn note_unheard(&mut self, number: u64, now: Instant) -> bool {
        let Some(serving) = self.serving.as_ref().filter(|serving| serving.number == number && !serving.refused) else { return false };
        let last = self.last_unheard.map_or(serving.proved.mono(), |last| last.max(serving.proved.mono()));
        if self.closing || self.recheck || now < last + UNHEARD_EVERY {
            return false;
        }
        self.last_unheard = Some(now);
        self.recheck = true;
        true
    }

    /// What is to be done now, given what the provider holds.
    pub(crate) fn decide(&mut self, held: Option<&Lease<S>>, now: Moment) -> Vec<Action> {
        let mono = now.mono();
        self.noted = false;
        self.next_proof = None;
        if now.skew_since(&self.last_beat) > JUMP {
            self.recheck = true;
        }
        self.last_beat = now;
        let mut actions = Vec::new();
        if self.closing {
            return actions;
        }
        self.probe(now, &mut actions);
        // Nobody logs in with a dead credential.
        let Some(held) = held.filter(|held| !held.expiry().is_expired(now)) else { return actions };
        let mut wanted = true;
        let mut check_only = false;
        if let Some(serving) = &self.serving {
            if serving.refused {
                actions.push(Action::Report(serving.revision().clone()));
            }
            if serving.revision() == held.revision() {
                if serving.expiry != held.expiry() {
                    actions.push(Action::Extend(held.expiry()));
                }
                if !serving.refused {
                    actions.push(Action::Settled);
                    wanted = self.recheck;
                    check_only = true;
                }
            }
        }
        if !wanted || self.attempt.is_some() {
            return actions;
        }
        let at = self.proof_due(held.revision(), mono);
        if at > mono {
            self.next_proof = Some(at);
            return actions;
        }
        self.recheck = false;
        self.attempts += 1;
        self.attempt = Some(Attempt { number: self.attempts, revision: held.revision().clone(), check_only });
        actions.push(Action::HandOver { attempt: self.attempts, check_only });
        actions
    }

    fn proof_due(&self, revision: &Revision, now: Instant) -> Instant {
        let due = self.logins.next_proof(revision, now);
        match &self.retry {
            Some(retry) if retry.revision == *revision => due.max(retry.at),
            _ => due,
        }
    }

    fn probe(&mut self, at: Moment, actions: &mut Vec<Action>) {
        let wanted =
            self.serving.as_ref().is_some_and(|serving| serving.ends_its_sessions() && !serving.refused && !serving.expiry.is_expired(at));
        let now = at.mono();
        if !wanted {
            self.suspect = false;
            return;
        }
        if !self.probing && self.probe_at(now).is_some_and(|at| at <= now) {
            self.probing = true;
            self.suspect = false;
            self.last_probe = Some(now);
            actions.push(Action::Probe);
        }
    }

    fn probe_at(&self, now: Instant) -> Option<Instant> {
        let serving = self.serving.as_ref().filter(|serving| serving.ends_its_sessions() && !serving.refused)?;
        let since = self.last_probe.unwrap_or(serving.proved.mono());
        Some(if self.suspect { self.last_probe.map_or(now, |last| last + PROBE_SUSPECT) } else { since + PROBE_EVERY })
    }

    pub(crate) fn probed(&mut self) {
        self.probing = false;
    }

    /// When to look again though nothing was noted.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        let probe = if self.probing { None } else { self.probe_at(now) };
        [self.next_proof, probe].into_iter().flatten().min()
    }

    /// When something that may help callers is tried next, as far as this pool knows.
    pub(crate) fn outlook(&self, held: Option<&Lease<S>>, now: Moment) -> Outlook {
        if self.closing {
            return Outlook::Never;
        }
        if self.noted || self.attempt.is_some() {
            return Outlook::Running;
        }
        let Some(held) = held.filter(|held| !held.expiry().is_expired(now)).map(Lease::revision) else { return Outlook::Never };
        let now = now.mono();
        if self.serving.as_ref().is_some_and(|serving| !serving.refused && serving.revision() == held) {
            return Outlook::Never;
        }
        match self.proof_due(held, now) {
            at if at <= now => Outlook::Running,
            at => Outlook::Due(at),
        }
    }

    /// An attempt failed: what is served goes on. Answers the revisions that the provider is to hear of.
    pub(crate) fn failed(&mut self, attempt: &Attempt, fault: &Fault, now: Moment) -> Vec<Revision> {
        self.attempt = None;
        self.last_fault = Some(fault.clone());
        let mono = now.mono();
        if fault.kind() != FaultKind::Refused {
            let failures = match &self.retry {
                Some(retry) if retry.revision == attempt.revision => retry.failures.saturating_add(1),
                _ => 1,
            };
            let pause = if fault.is_transient() { schedule::back_off(schedule::FLOOR, LONGEST_RETRY, failures) } else { LONGEST_RETRY };
            self.retry = Some(Retry { revision: attempt.revision.clone(), at: mono + pause, failures });
            // An unreachable database says nothing about what is served.
            self.recheck |= attempt.check_only;
            return Vec::new();
        }
        self.logins.proof_refused(&attempt.revision, mono);
        match &self.serving {
            // It serves, and dies: a candidate that the database goes on refusing would be renewed in its place for ever.
            Some(serving)
                if !serving.refused
                    && *serving.revision() != attempt.revision
                    && serving.ends_its_sessions()
                    && self.logins.refused_in_a_row(&attempt.revision) >= HOPELESS =>
            {
                vec![attempt.revision.clone()]
            }
            // It serves: the candidate is proved again later, without a fetch.
            Some(serving) if !serving.refused && *serving.revision() != attempt.revision => Vec::new(),
            Some(serving) if *serving.revision() != attempt.revision => vec![serving.revision().clone(), attempt.revision.clone()],
            _ => vec![attempt.revision.clone()],
        }
    }

    /// A proof of what is served worked.
    pub(crate) fn checked(&mut self, now: Moment) {
        self.attempt = None;
        self.retry = None;
        self.last_fault = None;
        if let Some(serving) = &mut self.serving {
            serving.proved = now;
            let revision = serving.revision().clone();
            self.logins.proved(&revision, now.mono());
        }
    }

    /// A lease was proved and is about to be published under the answered number.
    pub(crate) fn published(&mut self, loan: Loan<S>, width: u32, now: Moment) -> (u64, Option<Serving<S>>) {
        self.attempt = None;
        self.retry = None;
        self.last_fault = None;
        self.logins.proved(loan.lease.revision(), now.mono());
        if self.serving.as_ref().is_some_and(|serving| serving.revision() != loan.lease.revision()) {
            self.logins.superseded(loan.lease.revision());
        }
        let number = self.serving.as_ref().map_or(1, |serving| serving.number + 1);
        let expiry = loan.lease.expiry();
        // What was asked about another role says nothing of this one.
        (self.suspect, self.last_probe) = (false, None);
        let old = self.serving.replace(Serving { number, loan, expiry, proved: now, refused: false, width });
        (number, old)
    }
}
