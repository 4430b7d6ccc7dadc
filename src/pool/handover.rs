//! Hands over to a verified lease: open → warm → publish → drain, or an update in place.

use std::sync::Arc;
use std::time::Duration;

use tracing::Span;

use super::attempt::AttemptTask;
use super::call::are_expired;
use super::factory::PoolFactory;
use super::generation::{Generation, Lifecycle, Phase};
use super::login_limits::{LoginLimits, UnpublishedLimits};
use super::machine::{PoolEffect, PoolInput};
use super::own_queue::login_permits;
use super::slot::PoolSlot;
use super::state::Draining;
use super::task::{retry_with_room, run_in_task};
use super::warming::{open_ahead, top_up};
use crate::error::ConnectError;
use crate::events::Event;
use crate::lease::{Lease, Revision};
use crate::provider::LeaseGuard;
use crate::report::{HandoverMode, HandoverReport};
use crate::telemetry;

impl<F: PoolFactory> AttemptTask<F> {
    /// Hands over to a verified lease. An error leaves the old generation unchanged. `verify` is
    /// the duration of the verification.
    pub(super) async fn hand_over(
        &self,
        lease_guard: LeaseGuard<F::Secret>,
        verify: Duration,
    ) -> Result<(), ConnectError> {
        let (slot, span) = (&self.slot, &self.span);
        let settings = slot.settings();
        let revision = lease_guard.lease.revision().clone();
        let active = slot.active_lease();
        let is_same = active.is_some_and(|active| *active.revision() == revision);
        let tries_in_place = slot
            .lock()
            .machine
            .tries_in_place(&revision, settings.policy);
        let as_pool_began = slot.clock().mono();
        // Before the current pool gets the new options, because its callers would log in with them.
        // A lease that the pool serves was verified so before.
        if tries_in_place && !is_same {
            self.verify_as_pool(&lease_guard).await?;
        }
        let as_pool = slot.since(as_pool_began);
        let open_began = slot.clock().mono();
        let (pool, login_limits) = self.open(&lease_guard.lease, tries_in_place)?;
        let unpublished = login_limits.clone().map(UnpublishedLimits);
        let open = slot.since(open_began);
        // Only a pool that replaces another has its own login limits.
        let mode = match login_limits {
            None => HandoverMode::InPlace,
            Some(_) => HandoverMode::Replace,
        };
        span.record("mode", mode.as_str());

        let has_old = slot.shared.admission.has_old();
        let ahead = match mode {
            HandoverMode::InPlace => 0,
            HandoverMode::Replace => slot.lock().machine.ahead_of_demand(
                has_old,
                settings.warm_connections,
                settings.overlap,
            ),
        };
        let warm_began = slot.clock().mono();
        let warmed = if let (1.., Some(UnpublishedLimits(limits))) = (ahead, &unpublished) {
            let lease = lease_guard.lease.clone();
            self.warm(&pool, limits, lease, ahead).await
        } else if tries_in_place {
            Ok(())
        } else {
            self.verify_as_pool(&lease_guard).await
        };
        if let Err(error) = warmed {
            discard(slot, pool, mode);
            return Err(error);
        }
        let reauthenticates = mode == HandoverMode::InPlace && !is_same;
        // The server may end open connections before they have authenticated again. Callers get
        // none of them meanwhile, and nobody logs in.
        let is_late = reauthenticates && slot.is_out_of_use(reauthentication_deadline(slot));
        if is_late {
            self.reauthenticate(&pool).await;
        }
        let report = HandoverReport {
            pool: Arc::clone(slot.name()),
            // Set by the publication, as `took`.
            generation: 0,
            mode,
            verify,
            open,
            warm: as_pool + slot.since(warm_began),
            took: Duration::ZERO,
        };
        let Some(published) = self.publish(lease_guard, &pool, login_limits, report) else {
            discard(slot, pool, mode);
            slot.notify_and_wake();
            return Ok(());
        };
        slot.recovered();
        // After the publication, because callers log in with the new lease already: a rejection
        // counts for that lease. The old lease is returned later, and may be released then.
        if reauthenticates && !is_late {
            slot.shared.notify_waiting();
            self.reauthenticate(&pool).await;
        }
        // Locks the provider.
        drop(published.old_leases);
        let number = published.report.generation;
        self.after_publication(published.report, &revision, &published.account);
        if mode == HandoverMode::Replace {
            top_up(slot, number, pool);
        }
        Ok(())
    }

    /// Verifies requirements beyond a login, if no connection is opened before publication.
    pub(super) async fn verify_as_pool(
        &self,
        lease_guard: &LeaseGuard<F::Secret>,
    ) -> Result<(), ConnectError> {
        let context = &self.slot.context;
        let _permit = self.slot.permit_to_verify().await;
        self.slot.check_expiry(&lease_guard.lease)?;
        let work = {
            let (slot, lease) = (Arc::clone(&self.slot), lease_guard.lease.clone());
            let within = context.settings.verify_deadline;
            async move {
                let secret = lease.secret();
                retry_with_room(&slot, secret, || {
                    slot.factory().verify_as_pool(secret, within)
                })
                .await
            }
        };
        let operation = "opening a connection with the pool's hooks";
        let verified = run_in_task(work, Span::none(), context, operation).await;
        verified.map_err(|error| self.slot.explain(&lease_guard.lease, error))
    }

    /// Authenticates the open connections of an updated pool again. A failure delays nothing: the
    /// lease is verified, and the pool replaces its connections itself.
    async fn reauthenticate(&self, pool: &F::Pool) {
        let context = &self.slot.context;
        let work = {
            let (slot, pool) = (Arc::clone(&self.slot), pool.clone());
            let within = reauthentication_deadline(&slot);
            async move {
                slot.factory().reauthenticate(&pool, within).await;
                Ok(())
            }
        };
        let operation = "authenticating open connections again";
        if let Err(error) = run_in_task(work, Span::none(), context, operation).await {
            tracing::warn!(
                pool = %self.slot.name(),
                error = %error,
                "open connections could not authenticate again; the pool replaces them"
            );
        }
    }

    /// Updates the current pool, if the handover tries that and the factory allows it. Otherwise
    /// opens another one, which has login limits of its own.
    fn open(
        &self,
        lease: &Lease<F::Secret>,
        tries_in_place: bool,
    ) -> Result<(F::Pool, Option<Arc<LoginLimits>>), ConnectError> {
        let (slot, factory, secret) = (&self.slot, self.slot.factory(), lease.secret());
        let span = telemetry::open(&self.span);
        if tries_in_place && let Some(active) = slot.active_lease() {
            let current = slot.shared.current();
            let pool = current.pool.clone();
            if factory.update_in_place(&pool, active.secret(), secret) {
                // Only now, because the old credentials may have expired.
                let login_limits = &current.lifecycle.login_limits;
                login_limits.set_expiry(lease.expiry());
                return Ok((pool, None));
            }
        }
        let login_limits = LoginLimits::new(slot.settings().max_connections);
        login_limits.set_expiry(lease.expiry());
        let logins = login_permits(&slot.shared, Arc::clone(&login_limits));
        let pool = factory.open(secret, logins).inspect_err(|error| {
            telemetry::failed(&span, error.kind().as_str(), &error.to_string());
        })?;
        Ok((pool, Some(login_limits)))
    }

    /// Starts the drain of the old generation, and reports the new one.
    fn after_publication(&self, report: HandoverReport, revision: &Revision, account: &Arc<str>) {
        let (slot, attempt) = (&self.slot, self.number);
        let (generation, mode) = (report.generation, report.mode.as_str());
        slot.context
            .failpoints
            .panic_if_set(slot.name(), "pool.published");
        // Not left to the actor, so that the span from which the drain follows may end.
        slot.start_drains();
        slot.shared.notify_waiting();
        slot.context
            .meters
            .handed_over(slot.name(), mode, report.took);
        slot.events().send(Event::HandedOver(report.clone()));
        if generation == 1 {
            tracing::info!(
                pool = %slot.name(), provider = %slot.upstream.name(), %account, "pool ready"
            );
        }
        tracing::debug!(pool = %slot.name(), generation, mode, "handed over");
        if let Some(rotation) = &self.rotation {
            rotation.handed_over(report, &revision.digest());
        }
        // Before `Reported`, because a wake ends a rollback whose provider is not held.
        slot.finish_roll_back();
        // After `handed_over`: a rotation that ends with the verification includes this handover.
        slot.feed(PoolInput::Reported { attempt }, None);
        slot.upstream.verified(revision, account);
        if let Some(rotation) = &self.rotation {
            slot.upstream.pool_done(rotation);
        }
        slot.notify_and_wake();
    }

    /// Opens connections before publication.
    async fn warm(
        &self,
        pool: &F::Pool,
        login_limits: &Arc<LoginLimits>,
        lease: Lease<F::Secret>,
        connections: u32,
    ) -> Result<(), ConnectError> {
        let span = telemetry::warm(&self.span);
        let work = {
            let (slot, attempt) = (Arc::clone(&self.slot), self.number);
            let lease = lease.clone();
            let (pool, span) = (pool.clone(), span.clone());
            let limits = Arc::clone(login_limits);
            async move {
                let secret = lease.secret();
                let opened =
                    open_ahead(&slot, attempt, &pool, &limits, secret, connections).await?;
                span.record("connections", opened);
                Ok(())
            }
        };
        let warmed = run_in_task(work, span, &self.slot.context, "warming").await;
        warmed.map_err(|error| self.slot.explain(&lease, error))
    }

    /// Publishes in one step under the slot's lock: callers get the new generation, and the old one
    /// drains. Returns `None` if the pool was closed meanwhile.
    fn publish(
        &self,
        lease_guard: LeaseGuard<F::Secret>,
        pool: &F::Pool,
        login_limits: Option<Arc<LoginLimits>>,
        mut report: HandoverReport,
    ) -> Option<Published<F::Secret>> {
        let slot = &self.slot;
        // The origin for the spans of waiting callers, and the cause of the drain.
        let (origin, root) = match &self.rotation {
            Some(rotation) => (rotation.origin(), rotation.span()),
            None => (lease_guard.origin.clone(), Span::none()),
        };
        let cause = if root.is_none() {
            self.span.clone()
        } else {
            root
        };
        let span = telemetry::publish(&self.span);
        let now = slot.clock().now();
        // The factory's code runs without the lock.
        let server: Arc<str> = slot.factory().server(lease_guard.lease.secret()).into();
        let admission = &slot.shared.admission;
        let mut inner = slot.lock();
        let current = slot.shared.current();
        let opened = PoolInput::Opened {
            attempt: self.number,
            mode: report.mode,
            lifetime: lease_guard.lifetime,
        };
        // In place, the lease of the current generation is no longer needed.
        let (effects, returned) = inner.handle(&slot.shared, opened, None);
        let publication = effects.into_iter().find_map(|effect| match effect {
            PoolEffect::Publish(publication) => Some(publication),
            _ => None,
        })?;
        let active = inner.machine.current()?;
        let number = publication.generation;
        let (expiry, old_connections) = (active.lease.expiry, active.lease.old_connections);
        let connections_until = active.lease.connections_until(now);
        let account = Arc::clone(&active.lease.account);
        inner.leases.insert(number, lease_guard);
        if publication.after_rejection {
            admission.give_head_start(now.mono());
        }
        if let Some(old) = publication.replaced {
            let pool = current.pool.clone();
            if !slot.settings().shares_connections {
                admission.begin_drain(old, pool.clone());
            }
            inner.draining.insert(old, Draining { pool, cause });
        }
        // After `begin_drain`, because the old generation's connections are to the previous server.
        admission.set_current(number, server, publication.limited);
        let lifecycle = match login_limits {
            None => current.lifecycle.successor(),
            Some(login_limits) => Lifecycle::new(Phase::Serving, login_limits),
        };
        let login_limits = Arc::clone(&lifecycle.login_limits);
        login_limits.set_limited_until(publication.limited.map(|(_, until)| until));
        slot.shared.publish(Generation {
            number,
            pool: pool.clone(),
            expiry,
            old_connections,
            connections_until,
            lifecycle: Arc::new(lifecycle),
            origin,
        });
        login_limits.publish();
        current
            .lifecycle
            .supersede(report.mode == HandoverMode::InPlace);
        report.generation = number;
        report.took = now.mono().saturating_duration_since(self.began);
        inner.last_handover = Some(report.clone());
        drop(inner);
        span.record("generation", number);
        self.span.record("generation", number);
        Some(Published {
            report,
            account,
            old_leases: returned.leases,
        })
    }
}

/// A handover whose generation is current.
struct Published<S: Send + Sync + 'static> {
    report: HandoverReport,
    account: Arc<str>,
    /// Leases that the pool no longer needs: after an update in place, that of the old generation.
    old_leases: Vec<LeaseGuard<S>>,
}

impl<F: PoolFactory> PoolSlot<F> {
    /// Returns whether callers get no connections of the current generation, because these have
    /// expired, and log in neither: its credentials are rejected, or expire within this time.
    fn is_out_of_use(&self, within: Duration) -> bool {
        let current = self.shared.current();
        let expires = current.expiry.earlier_by(within);
        are_expired(&self.shared, &current)
            && (current.lifecycle.phase() != Phase::Serving
                || expires.is_expired(self.clock().now()))
    }
}

/// Returns the time within which open connections authenticate again.
fn reauthentication_deadline<F: PoolFactory>(slot: &PoolSlot<F>) -> Duration {
    slot.context.settings.verify_deadline.mul_f64(0.8)
}

/// Closes a pool that was opened and never published. One that was updated in place belongs to the
/// current generation.
fn discard<F: PoolFactory>(slot: &Arc<PoolSlot<F>>, pool: F::Pool, mode: HandoverMode) {
    if mode == HandoverMode::Replace {
        let slot = Arc::clone(slot);
        tokio::spawn(async move { slot.factory().drain(pool).await });
    }
}
