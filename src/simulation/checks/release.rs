//! The laws of a provider's releases.

use crate::provider::machine::LeaseId;
use crate::simulation::backend::Kind;
use crate::simulation::database::{SecretId, secret_of};
use crate::simulation::report::Law;
use crate::simulation::world::World;

impl World {
    pub(in crate::simulation) fn release_starts(&mut self, index: usize, lease: LeaseId) {
        let now = self.clocks.mono;
        let node = self.providers[index].node;
        let is_closed = self.providers[index].is_closed;
        let Some(secret) = self.providers[index]
            .leases
            .get(&lease)
            .map(|facts| secret_of(&facts.revision))
        else {
            return self.broken(Law(9), node, "a release of an unknown lease");
        };
        if self.providers[index].releases.contains(&lease) {
            self.broken(Law(9), node, "two releases of one lease at once");
        }
        self.checks
            .trace
            .line("release", node, lease.0, secret as u64);
        self.checks.hazard("releases", 1);
        let keeps_connections = self.backends[index].kind == Kind::Token;
        let is_dynamic = self.backends[index].kind == Kind::Dynamic;
        let mut is_used = false;
        for pool in self.pools.iter().filter(|pool| pool.provider == node) {
            is_used |= pool.leases.values().any(|(_, used)| *used == secret);
            is_used |= pool.attempted() == Some(secret);
            is_used |= pool
                .rehearsal
                .as_ref()
                .is_some_and(|one| one.secret == secret);
            if !keeps_connections {
                let idle = pool.instances.values().flat_map(|instance| &instance.idle);
                let busy = pool.calls.values().filter_map(|call| call.holds);
                is_used |= idle
                    .copied()
                    .chain(busy.map(|(.., secret)| secret))
                    .any(|used| used == secret);
            }
        }
        let model = &mut self.providers[index].model;
        let is_current = model
            .current
            .is_some_and(|(_, current, _)| current == secret);
        let is_gone = is_dynamic && self.db.secrets[secret].releases > 0;
        let twice = is_gone || model.released.contains(&lease);
        let draws = model.releases_failed.contains(&lease) && !is_closed;
        let within = !draws || model.bucket.as_mut().is_none_or(|bucket| bucket.draw(now));
        if draws {
            self.checks.hazard("releases retried", 1);
        }
        if twice {
            self.broken(Law(9), node, format!("lease {secret} was released twice"));
        }
        if (is_used || is_current) && !is_closed {
            self.broken(
                Law(9),
                node,
                format!("lease {secret} was released while in use"),
            );
        }
        if !within {
            self.broken(Law(7), node, "a retried release beyond the bucket");
        }
    }

    pub(in crate::simulation) fn release_worked(
        &mut self,
        index: usize,
        lease: LeaseId,
        secret: SecretId,
    ) {
        let true_time = self.clocks.true_time();
        let model = &mut self.providers[index].model;
        model.released.insert(lease);
        model.unused.remove(&secret);
        self.db.secrets[secret].releases += 1;
        if self.backends[index].kind == Kind::Dynamic {
            self.db.drop_role(secret, true_time);
        }
    }
}
