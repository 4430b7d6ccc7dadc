//! A provider's fetches and releases.

use std::time::Duration;

use super::FETCH_DEADLINE;
use super::state::SimulatedFetch;
use crate::error::{ProviderError, ProviderErrorKind};
use crate::expiry::Expiry;
use crate::lease::Revision;
use crate::provider::machine::{Facts, FetchId, LeaseId, Offer, ProviderInput};
use crate::report::RotationTrigger;
use crate::simulation::backend::BackendReply;
use crate::simulation::clock::{MS, SEC};
use crate::simulation::database::secret_of;
use crate::simulation::event::SimulatedEvent;
use crate::simulation::node::NodeId;
use crate::simulation::report::Law;
use crate::simulation::world::World;

impl World {
    pub(super) fn start_fetch(&mut self, index: usize, fetch: FetchId, running: SimulatedFetch) {
        let true_time = self.clocks.true_time();
        let takes = self.backends[index].latency(true_time, &mut self.rng);
        let provider = &mut self.providers[index];
        provider.fetches.insert(fetch, running);
        let (node, losses) = (provider.node, provider.losses);
        let now = self.clocks.mono;
        if std::mem::take(&mut self.lose[index].0) {
            let soon = now + self.rng.u64(..takes);
            self.queue.add(
                soon,
                SimulatedEvent::Lose {
                    provider: index,
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
        let provider = &mut self.providers[node.index];
        if provider.losses != losses {
            return;
        }
        if let Some(running) = provider.fetches.get_mut(&fetch) {
            running.hangs = true;
            self.checks.hazard("fetches past their deadline", 1);
            self.disturb(node.index, 0);
            let error = ProviderError::new(ProviderErrorKind::TimedOut, "simulated");
            let jitter = self.rng.f64();
            self.feed_provider(
                node.index,
                ProviderInput::FetchHangs {
                    fetch,
                    error,
                    jitter,
                },
            );
        }
    }

    pub(in crate::simulation) fn fetched(&mut self, node: NodeId, losses: u32, fetch: FetchId) {
        let index = node.index;
        if self.providers[index].losses != losses {
            return;
        }
        let Some(running) = self.providers[index].fetches.remove(&fetch) else {
            return;
        };
        let true_time = self.clocks.true_time();
        let current = self.providers[index].secret();
        let response = if running.renews {
            self.backends[index].renewal(current, true_time, &self.db)
        } else {
            self.backends[index].response(
                index,
                current,
                &running.rejected,
                true_time,
                &mut self.db,
                &mut self.rng,
            )
        };
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
        let kind = self.backends[index].kind;
        let (result, fetched_lease) = match response {
            BackendReply::Failed(error) => (Err(error), None),
            BackendReply::Unchanged => (Ok(Offer::Unchanged), None),
            BackendReply::Renewed { ttl } => (Ok(Offer::Renewed(expiry(Some(ttl)))), None),
            BackendReply::New { secret, ttl } => {
                let faults = self.clocks.faults();
                let delivered = &mut self.db.secrets[secret];
                delivered.delivered = true;
                delivered.clock_faults.get_or_insert(faults);
                let facts = Facts {
                    revision: crate::simulation::database::revision(secret),
                    expiry: expiry(ttl),
                    old_connections: kind.old_connections(secret),
                    connection_expiry: kind
                        .connection_lifetime()
                        .map(|lifetime| Expiry::after(started, lifetime)),
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
            self.handle_provider(
                index,
                ProviderInput::FetchLate { fetch, lease },
                fetched_lease,
            );
            self.disturb(index, 0);
        } else {
            // Like the driver, reject a lease that has expired on arrival.
            let now = self.clocks.now();
            let result =
                result.and_then(|offer| self.providers[index].machine.reject_expired(offer, now));
            if let (Err(_), Some(facts)) = (&result, &fetched_lease) {
                self.db.secrets[secret_of(&facts.revision)].delivered = false;
                self.checks.hazard("leases expired on arrival", 1);
            }
            let fetched_lease = fetched_lease.filter(|_| result.is_ok());
            let jitter = self.rng.f64();
            self.handle_provider(
                index,
                ProviderInput::FetchDone {
                    fetch,
                    result,
                    jitter,
                },
                fetched_lease,
            );
        }
        self.wake_provider(index);
    }

    pub(super) fn start_release(&mut self, index: usize, lease: LeaseId) {
        self.release_starts(index, lease);
        let takes = self.rng.u64(5 * MS..2 * SEC);
        let hangs = self.clocks.true_time() < self.backends[index].hangs;
        let takes = if hangs { FETCH_DEADLINE } else { takes };
        let provider = &mut self.providers[index];
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
        let index = node.index;
        if self.providers[index].losses != losses || !self.providers[index].releases.remove(&lease)
        {
            return;
        }
        let true_time = self.clocks.true_time();
        let backend = &self.backends[index];
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
        let secret = self.providers[index]
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
                Ok(()) => self.release_worked(index, lease, secret),
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
        self.feed_provider(index, ProviderInput::ReleaseDone { lease, result });
    }

    /// Loses the tasks of a driver, as if their runtime had ended.
    pub(in crate::simulation) fn lose_provider_tasks(&mut self, index: usize) {
        let provider = &mut self.providers[index];
        provider.losses += 1;
        let fetches = std::mem::take(&mut provider.fetches);
        let releases = std::mem::take(&mut provider.releases);
        let lost = (fetches.len() + releases.len()) as u64;
        self.checks.hazard("provider tasks lost", lost);
        self.disturb(index, 0);
        for fetch in fetches.into_keys() {
            self.feed_provider(index, ProviderInput::FetchLost(fetch));
        }
        for lease in releases {
            self.feed_provider(index, ProviderInput::ReleaseLost(lease));
        }
    }

    /// Checks the start of a fetch.
    pub(super) fn fetch_starts(
        &mut self,
        index: usize,
        fetch: FetchId,
        trigger: RotationTrigger,
        is_requested: bool,
        rejected: &[Revision],
    ) {
        let node = self.providers[index].node;
        self.checks
            .trace
            .line(trigger.as_str(), node, fetch.0, rejected.len() as u64);
        self.check_fetch(index, trigger, is_requested, rejected);
        let is_long = self.providers[index].running().any(|fetch| !fetch.hangs);
        if is_long {
            self.broken(Law(5), node, "two fetches within their deadline at once");
        }
        if self.providers[index].running().count() >= 3 {
            self.broken(Law(7), node, "a fetch began while three hang");
        }
    }
}
