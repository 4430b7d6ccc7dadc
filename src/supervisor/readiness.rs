//! Whether traffic should be sent here.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::inner::Inner;
use crate::status::Readiness;

/// Divisor that limits the ready margin to a share of a lease's time to live. A lease of 10 s is
/// renewed with 2 to 5 s left, and unready with 1 s left.
const MARGIN_DIVISOR: u32 = 10;

pub(super) fn readiness(inner: &Inner) -> Readiness {
    let (providers, pools, closed) = inner.registered();
    let mut reasons = Vec::new();
    if closed {
        reasons.push("the supervisor was shut down".to_owned());
    } else if inner.leaving.load(Ordering::Acquire) {
        reasons.push("this instance is about to shut down".to_owned());
    }
    // A share of a short lease's lifetime. With the full margin it would be unready most of the
    // time, although it is renewed in time.
    let margin_of = |lifetime: Option<Duration>| {
        let margin = inner.context.settings.ready_margin;
        lifetime.map_or(margin, |lifetime| margin.min(lifetime / MARGIN_DIVISOR))
    };
    for provider in providers {
        let status = provider.slot.status();
        let margin = margin_of(status.lifetime);
        if status.revision.is_none() {
            reasons.push(format!("provider {:?} has no lease", status.name));
        } else if status.remaining.is_some_and(|remaining| remaining < margin) {
            reasons.push(format!(
                "the lease of provider {:?} has less than {} left",
                status.name,
                humantime::format_duration(margin)
            ));
        }
        if provider.child.is_over_budget(inner.context.clock.mono()) {
            reasons.push(format!(
                "the actor of provider {:?} keeps failing",
                status.name
            ));
        }
    }
    for pool in pools {
        let status = pool.slot.status();
        let margin = margin_of(status.lifetime);
        if status.generation == 0 {
            reasons.push(format!("pool {:?} has verified no lease", status.name));
        } else if status.rejected {
            reasons.push(format!(
                "the database rejects the credentials of pool {:?}",
                status.name
            ));
        } else if !status.serving {
            reasons.push(format!("the lease of pool {:?} has expired", status.name));
        } else if pool.slot.has_unknown_login_error() {
            reasons.push(format!(
                "logins with the active credentials of pool {:?} fail; see its last_error",
                status.name
            ));
        }
        if status.serving && status.remaining.is_some_and(|remaining| remaining < margin) {
            reasons.push(format!(
                "the lease of pool {:?} has less than {} left",
                status.name,
                humantime::format_duration(margin)
            ));
        }
        if pool.child.is_over_budget(inner.context.clock.mono()) {
            reasons.push(format!("the actor of pool {:?} keeps failing", status.name));
        }
    }
    Readiness {
        ready: reasons.is_empty(),
        reasons,
    }
}
