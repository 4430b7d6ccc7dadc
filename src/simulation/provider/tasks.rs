//! A provider's fetches and releases.

use std::time::Duration;

use super::{FETCH_DEADLINE, SimulatedFetch};
use crate::error::{ProviderError, ProviderErrorKind};
use crate::expiry::Expiry;
use crate::lease::Revision;
use crate::provider::machine::{Facts, FetchId, LeaseId, Offer, ProviderInput};
use crate::report::RotationTrigger;
use crate::simulation::backend::BackendReply;
use crate::simulation::clock::{MS, SEC};
use crate::simulation::database::secret_of;
use crate::simulation::event::{NodeId, SimulatedEvent};
use crate::simulation::report::Law;
use crate::simulation::world::World;

impl World {
    pub(super) fn start_fetch(&mut self, at: usize, fetch: FetchId, running: SimulatedFetch) {
        let true_time = self.clocks.true_time();
        let takes = self.backends[at].latency(true_time, &mut self.rng);
        let provider = &mut self.providers[at];
        provider.fetches.insert(fetch, running);
        let (node, losses) = (provider.node, provider.losses);
        let now = self.clocks.mono;
        if std::mem::take(&mut self.lose[at].0) {
            let soon = now + self.rng.u64(..takes);
            self.queue.add(
                soon,
                SimulatedEvent::Lose {
                    provider: at,
                    pools: false,
                },
            );
        }
        self.queue.add(
            now + takes,
            SimulatedEvent::Fetched {
                node,
                losses,
                fetch,
            },
        );
        if takes > FETCH_DEADLINE {
            let late = SimulatedEvent::FetchDeadline {
                node,
                losses,
                fetch,
            };
            self.queue.add(now + FETCH_DEADLINE, late);
        }
    }

    pub(in crate::simulation) fn fetch_hangs(&mut self, node: NodeId, losses: u32, fetch: FetchId) {
        let provider = &mut self.providers[node.at];
        if provider.losses != losses {
            return;
        }
        if let Some(running) = provider.fetches.get_mut(&fetch) {
            running.hangs = true;
            self.checks.hazard("fetches past their deadline", 1);
            self.disturb(node.at, 0);
            let error = ProviderError::new(ProviderErrorKind::TimedOut, "simulated");
            let jitter = self.rng.f64();
            self.feed_provider(
                node.at,
                ProviderInput::FetchHangs {
                    fetch,
                    error,
                    jitter,
                },
            );
        }
    }

    pub(in crate::simulation) fn fetched(&mut self, node: NodeId, losses: u32, fetch: FetchId) {
        let at = node.at;
        if self.providers[at].losses != losses {
            return;
        }
        let Some(running) = self.providers[at].fetches.remove(&fetch) else {
            return;
        };
        let true_time = self.clocks.true_time();
        let current = self.providers[at].secret();
        let response = self.backends[at].response(
            at,
            current,
            &running.rejected,
            true_time,
            &mut self.db,
            &mut self.rng,
        );
        self.checks.trace.line(
            "response",
            node,
            fetch.0,
            current.unwrap_or_default() as u64,
        );
        let started = running.started;
        let expiry = |ttl: Option<u64>| {
            ttl.map_or(Expiry::never(), |ttl| {
                Expiry::after(started, Duration::from_micros(ttl))
            })
        };
        let kind = self.backends[at].kind;
        let (result, fetched_lease) = match response {
            BackendReply::Failed(error) => (Err(error), None),
            BackendReply::Unchanged => (Ok(Offer::Unchanged), None),
            BackendReply::Renewed { ttl } => (Ok(Offer::Renewed(expiry(Some(ttl)))), None),
            BackendReply::New { secret, ttl } => {
                self.db.secrets[secret].delivered = true;
                let facts = Facts {
                    revision: crate::simulation::database::revision(secret),
                    expiry: expiry(ttl),
                    old_connections: kind.old_connections(),
                    refresh_after: None,
                };
                (Ok(Offer::New(facts.clone())), Some(facts))
            }
        };
        if running.hangs {
            self.checks.hazard(
                "leases returned after the deadline",
                u64::from(fetched_lease.is_some()),
            );
            let lease = fetched_lease.clone();
            self.handle_provider(at, ProviderInput::FetchLate { fetch, lease }, fetched_lease);
            self.disturb(at, 0);
        } else {
            // Like the driver, reject a lease that has expired on arrival.
            let now = self.clocks.now();
            let result =
                result.and_then(|offer| self.providers[at].machine.reject_expired(offer, now));
            if let (Err(_), Some(facts)) = (&result, &fetched_lease) {
                self.db.secrets[secret_of(&facts.revision)].delivered = false;
                self.checks.hazard("leases expired on arrival", 1);
            }
            let fetched_lease = fetched_lease.filter(|_| result.is_ok());
            let jitter = self.rng.f64();
            self.handle_provider(
                at,
                ProviderInput::FetchDone {
                    fetch,
                    result,
                    jitter,
                },
                fetched_lease,
            );
        }
        self.wake_provider(at);
    }

    pub(super) fn start_release(&mut self, at: usize, lease: LeaseId) {
        self.release_starts(at, lease);
        let takes = self.rng.u64(5 * MS..2 * SEC);
        let hangs = self.clocks.true_time() < self.backends[at].hangs;
        let takes = if hangs { FETCH_DEADLINE } else { takes };
        let provider = &mut self.providers[at];
        provider.releases.insert(lease);
        let (node, losses) = (provider.node, provider.losses);
        let event = SimulatedEvent::Released {
            node,
            losses,
            lease,
            hangs,
        };
        self.queue.add(self.clocks.mono + takes, event);
    }

    pub(in crate::simulation) fn released(
        &mut self,
        node: NodeId,
        losses: u32,
        lease: LeaseId,
        hangs: bool,
    ) {
        let at = node.at;
        if self.providers[at].losses != losses || !self.providers[at].releases.remove(&lease) {
            return;
        }
        let true_time = self.clocks.true_time();
        let backend = &self.backends[at];
        let fails = |kind| Err(ProviderError::new(kind, "simulated"));
        let result = if hangs {
            fails(ProviderErrorKind::TimedOut)
        } else if true_time < backend.down || true_time < backend.releases_fail {
            fails(ProviderErrorKind::Unavailable)
        } else if true_time < backend.denied {
            fails(ProviderErrorKind::Denied)
        } else {
            Ok(())
        };
        let secret = self.providers[at]
            .leases
            .get(&lease)
            .map(|facts| secret_of(&facts.revision));
        if let Some(secret) = secret {
            self.checks.trace.line(
                if result.is_ok() {
                    "released"
                } else {
                    "not released"
                },
                node,
                lease.0,
                secret as u64,
            );
            match &result {
                Ok(()) => self.release_worked(at, lease, secret),
                Err(error) => {
                    self.checks.hazard("releases that failed", 1);
                    let known = &mut self.db.secrets[secret];
                    known.failed_releases += 1;
                    // A lease that never expires is given up after ten attempts.
                    let is_last = known.expires == u64::MAX && known.failed_releases >= 10;
                    known.release_given_up |= is_last || !error.is_transient();
                }
            }
        }
        self.feed_provider(at, ProviderInput::ReleaseDone { lease, result });
    }

    /// Loses the tasks of a driver, as if their runtime had ended.
    pub(in crate::simulation) fn lose_provider_tasks(&mut self, at: usize) {
        let provider = &mut self.providers[at];
        provider.losses += 1;
        let fetches = std::mem::take(&mut provider.fetches);
        let releases = std::mem::take(&mut provider.releases);
        let lost = (fetches.len() + releases.len()) as u64;
        self.checks.hazard("provider tasks lost", lost);
        self.disturb(at, 0);
        for fetch in fetches.into_keys() {
            self.feed_provider(at, ProviderInput::FetchLost(fetch));
        }
        for lease in releases {
            self.feed_provider(at, ProviderInput::ReleaseLost(lease));
        }
    }

    /// Checks the start of a fetch.
    pub(super) fn fetch_starts(
        &mut self,
        at: usize,
        fetch: FetchId,
        trigger: RotationTrigger,
        is_requested: bool,
        rejected: &[Revision],
    ) {
        let node = self.providers[at].node;
        self.checks
            .trace
            .line(trigger.as_str(), node, fetch.0, rejected.len() as u64);
        self.check_fetch(at, trigger, is_requested, rejected);
        let is_long = self.providers[at].fetches.values().any(|one| !one.hangs);
        if is_long {
            self.broken(Law(5), node, "two fetches within their deadline at once");
        }
        let bound = self.providers[at].fetches.len();
        if bound >= 3 {
            self.broken(Law(7), node, "a fetch began while three hang");
        }
    }
}
