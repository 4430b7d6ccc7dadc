//! What a pool's slot knows, and what follows from it: no I/O, no clock, no task.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::drain::Drains;
use super::logins::Logins;
use crate::clock::Timestamp;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::expiry::Expiry;
use crate::lease::{Lease, OldConnections, Revision};
use crate::outlook::Outlook;
use crate::provider::{Loan, schedule};
use crate::rotation::HandoverReport;

/// The longest pause between verifications that fail for another reason than a rejection.
const LONGEST_RETRY: Duration = Duration::from_secs(15);
/// How often one idle connection is asked whether its role still exists, when the lease ends its
/// connections.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// The same after a statement failed as it would without the role, at most; of each generation the
/// first one counts at once.
const PROBE_SUSPECT: Duration = Duration::from_secs(10);
/// Time after the last suspicion from which a probe settles it. Backends end a user's connections
/// and drop the user within moments, in either order.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// Shortest time between two verifications of the served lease after logins that outlasted their
/// callers. Such a login may be rejected when nobody waits for it any more.
const UNHEARD_EVERY: Duration = Duration::from_secs(10);
/// A lease that is rejected within this time of its verification is verified again before a fetch.
/// One of several servers behind an address may lag.
const JUST_VERIFIED: Duration = Duration::from_secs(10);
/// Rejected verifications of a candidate after which the rejection is reported although another
/// lease serves. Applies where the serving lease ends its connections. Fewer may mean a replica
/// that does not have the user yet.
const REPORT_AFTER: usize = 4;
/// Random share added to the pause after a verification that failed without a rejection.
const RETRY_JITTER: f64 = 0.1;
/// A clock jump of more than this makes every verification count as unlooked-at.
const JUMP: Duration = Duration::from_secs(60);

/// Everything that must outlive a crash of the actor.
pub(crate) struct State<S: Send + Sync + 'static, P> {
    /// Nothing new starts: the pool is being removed, or the supervisor shut down.
    pub(crate) closing: bool,
    pub(crate) serving: Option<Serving<S>>,
    pub(crate) attempt: Option<Attempt>,
    /// A generation is published whose handover is not in its rotation's report yet.
    reporting: bool,
    retry: Option<Retry>,
    pub(crate) logins: Logins,
    pub(crate) drains: Drains<S, P>,
    pub(crate) last_error: Option<ConnectError>,
    /// Error of the last verification of the served lease, if every login may get it: its kind is
    /// `Other` or `Misconfigured`.
    pub(crate) unexplained: Option<ConnectError>,
    pub(crate) last_handover: Option<HandoverReport>,
    /// A caller was rejected, and the actor has not looked since.
    pub(crate) noted: bool,
    suspect: bool,
    suspected: Option<Instant>,
    probing: bool,
    last_probe: Option<Instant>,
    recheck: bool,
    /// When the served lease is verified again because of what a caller met.
    recheck_due: Option<Instant>,
    last_unheard: Option<Instant>,
    last_beat: Timestamp,
    next_verification: Option<Instant>,
    attempts: u64,
}

/// What callers are served.
pub(crate) struct Serving<S: Send + Sync + 'static> {
    pub(crate) number: u64,
    pub(crate) loan: Loan<S>,
    pub(crate) expiry: Expiry,
    pub(crate) verified: Timestamp,
    pub(crate) rejected: bool,
    /// Set when it was rejected within `JUST_VERIFIED` of its verification. It is verified again
    /// before the rejection is reported.
    unconfirmed: bool,
    /// Database user and server, as `PoolFactory::account` returns them.
    pub(crate) user: Arc<str>,
}

impl<S: Send + Sync + 'static> Serving<S> {
    pub(crate) fn revision(&self) -> &Revision {
        self.loan.lease.revision()
    }

    fn ends_its_connections(&self) -> bool {
        self.loan.lease.old_connections() == OldConnections::EndWithLease
    }
}

/// A verification, and the handover that follows it.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) number: u64,
    pub(crate) revision: Revision,
    /// Database user and server, as `PoolFactory::account` returns them.
    pub(crate) user: Arc<str>,
    /// Verifies what is served anyway, and publishes nothing if that works.
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
    /// Verify the held lease and hand over to it.
    HandOver { attempt: u64, check_only: bool },
    /// Tell callers of the held lease's later death.
    Extend(Expiry),
    /// The database rejects this revision: tell the provider.
    Report(Revision),
    /// Ask an idle connection whether its role still exists.
    Probe,
    /// What is held is what is served: nothing is awaited from this pool.
    Settled,
}

impl<S: Send + Sync + 'static, P> State<S, P> {
    pub(crate) fn new(max_connections: u32, now: Timestamp) -> Self {
        Self {
            closing: false,
            serving: None,
            attempt: None,
            reporting: false,
            retry: None,
            logins: Logins::new(max_connections),
            drains: Drains::default(),
            last_error: None,
            unexplained: None,
            last_handover: None,
            noted: false,
            suspect: false,
            suspected: None,
            probing: false,
            last_probe: None,
            recheck: false,
            recheck_due: None,
            last_unheard: None,
            last_beat: now,
            next_verification: None,
            attempts: 0,
        }
    }

    /// Counts a caller's rejected login, of the current generation or of one that drains.
    pub(crate) fn note_login_rejected(&mut self, number: u64, now: Instant) {
        let serving = self
            .serving
            .as_ref()
            .filter(|serving| serving.number == number);
        let draining = self.drains.iter().find(|drain| drain.number == number);
        let (revision, user) = match (
            serving,
            draining.and_then(|drain| drain.lease().zip(drain.user.as_ref())),
        ) {
            (Some(serving), _) => (serving.revision().clone(), Arc::clone(&serving.user)),
            (None, Some((lease, user))) => (lease.revision().clone(), Arc::clone(user)),
            _ => return,
        };
        self.logins.caller_rejected(&user, &revision, now);
    }

    /// Notes that the database rejected callers of the current generation. `held` is the provider's
    /// current lease and its account.
    pub(crate) fn note_rejected(
        &mut self,
        number: u64,
        error: ConnectError,
        held: Option<(&Revision, &Arc<str>)>,
        now: Instant,
    ) {
        // Another may have been published since it was noted.
        let Some(serving) = self
            .serving
            .as_mut()
            .filter(|serving| serving.number == number)
        else {
            return;
        };
        if std::mem::replace(&mut serving.rejected, true) {
            return;
        }
        serving.unconfirmed =
            now.saturating_duration_since(serving.verified.mono()) < JUST_VERIFIED;
        let (revision, user, unconfirmed) = (
            serving.revision().clone(),
            Arc::clone(&serving.user),
            serving.unconfirmed,
        );
        self.last_error = Some(error);
        self.logins.rejected(&user, &revision, now);
        if unconfirmed {
            self.logins.news(&user, &revision, now);
        }
        if let Some((candidate, user)) = held.filter(|(held, _)| **held != revision) {
            // The database may accept the candidate by now.
            self.logins.news(user, candidate, now);
            self.retry = None;
        }
    }

    /// Notes that the server ended a connection, or that a statement failed as it would without
    /// the role.
    pub(crate) fn note_suspect(&mut self, now: Instant) {
        self.suspect = true;
        self.suspected = Some(now);
    }

    /// Notes that a probe did not settle what the connections are worth: another one follows.
    pub(crate) fn note_unsettled(&mut self) {
        self.suspect = true;
    }

    /// Returns whether the last suspicion is so old that the backend has done what it meant to do.
    pub(crate) fn is_suspicion_old(&self, now: Instant) -> bool {
        self.suspected
            .is_none_or(|last| now.saturating_duration_since(last) >= SETTLED_AFTER)
    }

    /// Notes that a login of another pool worked with this revision, as the same database user.
    /// Returns whether to act.
    pub(crate) fn note_verified_elsewhere(
        &mut self,
        revision: &Revision,
        user: &str,
        now: Instant,
    ) -> bool {
        if self
            .serving
            .as_ref()
            .is_some_and(|serving| !serving.rejected && serving.revision() == revision)
        {
            return false;
        }
        let retry = self.retry.take_if(|retry| retry.revision == *revision);
        self.logins.news(user, revision, now) || retry.is_some()
    }

    /// Notes that a login of the current generation outlasted its caller, or ended with an error
    /// that every login may get: the lease is verified again, ten seconds after the last
    /// verification at the earliest. Returns whether to act.
    pub(crate) fn note_unheard(&mut self, number: u64, now: Instant) -> bool {
        let Some(serving) = self
            .serving
            .as_ref()
            .filter(|serving| serving.number == number && !serving.rejected)
        else {
            return false;
        };
        let last = self.last_unheard.map_or(serving.verified.mono(), |last| {
            last.max(serving.verified.mono())
        });
        if self.closing || self.recheck || self.recheck_due.is_some() {
            return false;
        }
        self.recheck_due = Some(now.max(last + UNHEARD_EVERY));
        true
    }

    /// What is to be done now, given what the provider holds.
    pub(crate) fn decide(
        &mut self,
        held: Option<(&Lease<S>, &Arc<str>)>,
        now: Timestamp,
    ) -> Vec<Action> {
        let mono = now.mono();
        self.noted = false;
        self.next_verification = None;
        if now.skew_since(&self.last_beat) > JUMP {
            self.recheck = true;
        }
        self.last_beat = now;
        if self.recheck_due.take_if(|due| *due <= mono).is_some() {
            self.last_unheard = Some(mono);
            self.recheck = true;
        }
        let mut actions = Vec::new();
        if self.closing {
            return actions;
        }
        self.probe(now, &mut actions);
        // Nobody logs in with a dead credential.
        let Some((held, user)) = held.filter(|(held, _)| !held.expiry().is_expired(now)) else {
            return actions;
        };
        let mut wanted = true;
        let mut check_only = false;
        if let Some(serving) = &self.serving {
            let same = serving.revision() == held.revision();
            if serving.rejected && !(serving.unconfirmed && same) {
                actions.push(Action::Report(serving.revision().clone()));
            }
            if same {
                if serving.expiry != held.expiry() {
                    actions.push(Action::Extend(held.expiry()));
                }
                if !serving.rejected {
                    if self.attempt.is_none() && !self.recheck && self.unexplained.is_none() {
                        // What another lease failed of is over with that lease.
                        self.last_error = None;
                        self.retry = None;
                    }
                    // Not before the handover is in its rotation's report.
                    if !self.reporting {
                        actions.push(Action::Settled);
                    }
                    wanted = self.recheck;
                    check_only = true;
                }
            }
        }
        if !wanted || self.attempt.is_some() {
            return actions;
        }
        let at = self.verification_due(user, held.revision(), mono);
        if at > mono {
            self.next_verification = Some(at);
            return actions;
        }
        self.recheck = false;
        self.attempts += 1;
        self.attempt = Some(Attempt {
            number: self.attempts,
            revision: held.revision().clone(),
            user: Arc::clone(user),
            check_only,
        });
        actions.push(Action::HandOver {
            attempt: self.attempts,
            check_only,
        });
        actions
    }

    fn verification_due(&self, user: &str, revision: &Revision, now: Instant) -> Instant {
        let due = self.logins.next(user, revision, now);
        match &self.retry {
            Some(retry) if retry.revision == *revision => due.max(retry.at),
            _ => due,
        }
    }

    fn probe(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(at) = self.probe_at(now) else {
            self.suspect = false;
            return;
        };
        if !self.probing && at <= now.mono() {
            self.probing = true;
            self.suspect = false;
            self.last_probe = Some(now.mono());
            actions.push(Action::Probe);
        }
    }

    /// Returns when an idle connection is probed next, if at all.
    fn probe_at(&self, now: Timestamp) -> Option<Instant> {
        let serving = self.serving.as_ref()?;
        if self.closing
            || !serving.ends_its_connections()
            || serving.rejected
            || serving.expiry.is_expired(now)
        {
            return None;
        }
        let since = self.last_probe.unwrap_or(serving.verified.mono());
        Some(if self.suspect {
            self.last_probe
                .map_or(now.mono(), |last| last + PROBE_SUSPECT)
        } else {
            since + PROBE_EVERY
        })
    }

    /// The handover is in its rotation's report.
    pub(crate) fn reported(&mut self) {
        self.reporting = false;
    }

    pub(crate) fn probed(&mut self) {
        self.probing = false;
    }

    /// When to look again though nothing was noted.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Instant> {
        let probe = if self.probing {
            None
        } else {
            self.probe_at(now)
        };
        [self.next_verification, self.recheck_due, probe]
            .into_iter()
            .flatten()
            .min()
    }

    /// When something that may help callers is tried next, as far as this pool knows.
    pub(crate) fn outlook(&self, held: Option<(&Lease<S>, &Arc<str>)>, now: Timestamp) -> Outlook {
        if self.closing {
            return Outlook::Never;
        }
        if self.noted || self.attempt.is_some() {
            return Outlook::Running;
        }
        let Some((held, user)) = held.filter(|(held, _)| !held.expiry().is_expired(now)) else {
            return Outlook::Never;
        };
        let (held, now) = (held.revision(), now.mono());
        if self
            .serving
            .as_ref()
            .is_some_and(|serving| !serving.rejected && serving.revision() == held)
        {
            return Outlook::Never;
        }
        match self.verification_due(user, held, now) {
            at if at <= now => Outlook::Running,
            at => Outlook::Due(at),
        }
    }

    /// An attempt failed: what is served goes on. Answers the revisions that the provider is to
    /// hear of.
    pub(crate) fn failed(
        &mut self,
        attempt: &Attempt,
        error: &ConnectError,
        now: Timestamp,
    ) -> Vec<Revision> {
        self.attempt = None;
        self.last_error = Some(error.clone());
        if let Some(serving) = self
            .serving
            .as_mut()
            .filter(|serving| *serving.revision() == attempt.revision)
        {
            // One more verification is all that its rejection waits for.
            serving.unconfirmed = false;
        }
        let mono = now.mono();
        if error.kind() != ConnectErrorKind::Rejected {
            let failures = match &self.retry {
                Some(retry) if retry.revision == attempt.revision => {
                    retry.failures.saturating_add(1)
                }
                _ => 1,
            };
            let pause = if error.is_transient() {
                schedule::back_off(schedule::FLOOR, LONGEST_RETRY, failures)
            } else {
                LONGEST_RETRY
            };
            let pause = pause.mul_f64(1.0 + RETRY_JITTER * fastrand::f64());
            self.retry = Some(Retry {
                revision: attempt.revision.clone(),
                at: mono + pause,
                failures,
            });
            // An unreachable database says nothing about what is served.
            self.recheck |= attempt.check_only;
            if attempt.check_only
                && matches!(
                    error.kind(),
                    ConnectErrorKind::Other | ConnectErrorKind::Misconfigured
                )
            {
                self.unexplained = Some(error.clone());
            }
            return Vec::new();
        }
        let is_served = self
            .serving
            .as_ref()
            .is_some_and(|serving| *serving.revision() == attempt.revision);
        let is_start = self.serving.is_none();
        self.logins.verification_rejected(
            &attempt.user,
            &attempt.revision,
            is_served,
            is_start,
            mono,
        );
        if let Some(serving) = self
            .serving
            .as_mut()
            .filter(|serving| *serving.revision() == attempt.revision)
        {
            serving.unconfirmed = false;
        }
        match &self.serving {
            // It serves, and dies: a candidate that the database goes on rejecting would be renewed
            // in its place for ever.
            Some(serving)
                if !serving.rejected
                    && *serving.revision() != attempt.revision
                    && serving.ends_its_connections()
                    && self
                        .logins
                        .rejected_in_a_row(&attempt.user, &attempt.revision)
                        >= REPORT_AFTER =>
            {
                vec![attempt.revision.clone()]
            }
            // It serves: the candidate is verified again later, without a fetch.
            Some(serving) if !serving.rejected && *serving.revision() != attempt.revision => {
                Vec::new()
            }
            Some(serving) if *serving.revision() != attempt.revision => {
                vec![serving.revision().clone(), attempt.revision.clone()]
            }
            _ => vec![attempt.revision.clone()],
        }
    }

    /// A verification of what is served worked.
    pub(crate) fn checked(&mut self, now: Timestamp) {
        self.attempt = None;
        self.retry = None;
        self.last_error = None;
        self.unexplained = None;
        if let Some(serving) = &mut self.serving {
            serving.verified = now;
            let (user, revision) = (Arc::clone(&serving.user), serving.revision().clone());
            self.logins.worked(&user, &revision, now.mono());
        }
    }

    /// A lease was verified and is about to be published under the answered number. Its handover is
    /// not in its rotation's report before [`reported`](Self::reported).
    pub(crate) fn published(
        &mut self,
        loan: Loan<S>,
        user: Arc<str>,
        now: Timestamp,
    ) -> (u64, Option<Serving<S>>) {
        self.attempt = None;
        self.reporting = true;
        self.retry = None;
        self.last_error = None;
        self.unexplained = None;
        self.logins.worked(&user, loan.lease.revision(), now.mono());
        if self
            .serving
            .as_ref()
            .is_some_and(|serving| serving.revision() != loan.lease.revision())
        {
            self.logins.superseded(&user, loan.lease.revision());
        }
        let number = self
            .serving
            .as_ref()
            .map_or(1, |serving| serving.number + 1);
        let expiry = loan.lease.expiry();
        // What was asked about another role says nothing of this one.
        (self.suspect, self.last_probe) = (false, None);
        let old = self.serving.replace(Serving {
            number,
            loan,
            expiry,
            verified: now,
            rejected: false,
            unconfirmed: false,
            user,
        });
        (number, old)
    }
}

#[cfg(test)]
mod tests;
