//! How a pool stands.

use std::sync::Arc;
use std::time::Duration;

use super::generation::Phase;
use super::{PoolFactory, PoolSlot};
use crate::outlook::Outlook;
use crate::supervisor::{DrainStatus, PoolStatus};

impl<F: PoolFactory> PoolSlot<F> {
    /// Everything that is known of the pool. The factory counts connections after the lock was
    /// given back: its code may ask for the status itself.
    pub(super) fn as_status(&self) -> PoolStatus {
        let generation = self.shared().current();
        let (held, now) = (self.held(), self.clock().now());
        let (mut status, drains) = {
            let state = self.lock();
            let status = PoolStatus {
                name: Arc::clone(self.name()),
                provider: Arc::clone(self.upstream().name()),
                generation: generation.number,
                serving: generation.end.phase() == Phase::Serving
                    && !generation.expiry.is_expired(now),
                rejected: generation.end.phase() == Phase::Rejected,
                revision: state
                    .serving
                    .as_ref()
                    .map(|serving| serving.revision().digest()),
                expires: generation.expiry.wall(),
                remaining: generation.expiry.remaining(now),
                lifetime: state.serving.as_ref().and_then(|serving| serving.loan.life),
                verified: state
                    .serving
                    .as_ref()
                    .map(|serving| serving.verified.wall()),
                connections: 0,
                idle: 0,
                max_connections: self.terms().max_connections,
                moved: self.shared().moved(),
                draining: Vec::new(),
                last_handover: state.last_handover.clone(),
                last_error: state.last_error.clone(),
                next_verification: match state
                    .outlook(held.as_ref().map(|(held, user)| (held, user)), now)
                {
                    Outlook::Due(at) => Some(at.saturating_duration_since(now.mono())),
                    Outlook::Running => Some(Duration::ZERO),
                    Outlook::Never => None,
                },
                restarts: self.mailbox.restarts(),
            };
            let drains: Vec<_> = state
                .drains
                .iter()
                .map(|drain| (drain.number, drain.pool.clone(), drain.abandoned))
                .collect();
            (status, drains)
        };
        status.connections = self.factory().connections(&generation.pool);
        status.idle = self.factory().idle(&generation.pool);
        status.draining = drains
            .into_iter()
            .map(|(generation, pool, abandoned)| DrainStatus {
                generation,
                connections: self.factory().connections(&pool),
                abandoned,
            })
            .collect();
        status
    }
}
