//! Status of a pool.

use std::sync::Arc;
use std::time::Duration;

use super::factory::PoolFactory;
use super::generation::Phase;
use super::slot::PoolSlot;
use crate::next_attempt::NextAttempt;
use crate::status::{DrainStatus, PoolStatus};

impl<F: PoolFactory> PoolSlot<F> {
    /// Returns the pool's status. The factory counts connections without the lock, because its code
    /// may request the status itself.
    pub(crate) fn status(&self) -> PoolStatus {
        let generation = self.shared.current();
        let (next_attempt, now) = (self.own_next_attempt(), self.clock().now());
        let (active, last_handover, last_error, rolled_back, drains) = {
            let inner = self.lock();
            let drains = inner.machine.drains().iter().filter_map(|drain| {
                let draining = inner.draining.get(&drain.generation)?;
                Some((drain.generation, draining.pool.clone(), drain.abandoned))
            });
            (
                inner.machine.current().cloned(),
                inner.last_handover.clone(),
                inner.last_error(),
                inner.machine.is_rolled_back(),
                drains.collect::<Vec<_>>(),
            )
        };
        let active = active.as_ref();
        PoolStatus {
            name: Arc::clone(self.name()),
            provider: Arc::clone(self.upstream.name()),
            generation: generation.number,
            serving: generation.lifecycle.phase() == Phase::Serving
                && !generation.expiry.is_expired(now),
            rejected: generation.lifecycle.phase() == Phase::Rejected,
            rolled_back,
            revision: active.map(|active| active.lease.revision.digest()),
            expires: generation.expiry.wall(),
            remaining: generation.expiry.remaining(now),
            lifetime: active.and_then(|active| active.lifetime),
            verified: active.map(|active| active.verified.wall()),
            connections: self.factory().connections(&generation.pool),
            idle: self.factory().idle(&generation.pool),
            max_connections: self.settings().max_connections,
            moved: self.shared.moved_callers(),
            draining: drains
                .into_iter()
                .map(|(generation, pool, abandoned)| DrainStatus {
                    generation,
                    connections: self.factory().connections(&pool),
                    abandoned,
                })
                .collect(),
            last_handover,
            last_error,
            next_verification: match next_attempt {
                NextAttempt::Due(at) => Some(at.saturating_duration_since(now.mono())),
                NextAttempt::Running => Some(Duration::ZERO),
                NextAttempt::Never => None,
            },
            restarts: self.mailbox.restarts(),
        }
    }
}
