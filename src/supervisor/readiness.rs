//! Whether traffic should be sent here.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::inner::Inner;
use crate::clock::rfc3339;
use crate::status::Readiness;

/// Divisor that limits the ready margin to a share of a lease's time to live. A lease of 10 s is
/// renewed with 2 to 5 s left, and unready with 1 s left.
const MARGIN_DIVISOR: u32 = 10;

pub(super) fn readiness(inner: &Inner) -> Readiness {
    let (providers, pools, closed) = inner.registered();
    let (mut reasons, mut notes) = (Vec::new(), Vec::new());
    if closed {
        return Readiness {
            ready: false,
            reasons: vec!["the supervisor was shut down".to_owned()],
            notes,
        };
    }
    if inner.leaving.load(Ordering::Acquire) {
        reasons.push("this instance is about to shut down".to_owned());
    }
    // A share of a short lease's lifetime. With the full margin it would be unready most of the
    // time, although it is renewed in time.
    let missing_margin = |remaining: Option<Duration>, lifetime: Option<Duration>| {
        let margin = inner.context.settings.ready_margin;
        let margin = lifetime.map_or(margin, |lifetime| margin.min(lifetime / MARGIN_DIVISOR));
        let is_missing = remaining.is_some_and(|remaining| remaining < margin);
        is_missing.then(|| humantime::format_duration(margin))
    };
    let now = inner.context.clock.mono();
    for provider in providers {
        let status = provider.slot.status();
        let name = &status.name;
        if status.revision.is_none() {
            reasons.push(format!("provider {name:?} has no lease"));
        } else if let Some(margin) = missing_margin(status.remaining, status.lifetime) {
            reasons.push(format!(
                "the lease of provider {name:?} has less than {margin} left"
            ));
        }
        if let Some(since) = status.held {
            let since = rfc3339(since);
            notes.push(format!("provider {name:?} is held since {since}"));
        }
        if provider.child.is_over_budget(now) {
            reasons.push(format!("the actor of provider {name:?} keeps failing"));
        }
    }
    for pool in pools {
        let status = pool.slot.status();
        let name = &status.name;
        if status.generation == 0 {
            reasons.push(format!("pool {name:?} has verified no lease"));
        } else if status.rejected {
            reasons.push(format!(
                "the database rejects the credentials of pool {name:?}"
            ));
        } else if !status.serving {
            reasons.push(format!("the lease of pool {name:?} has expired"));
        } else if pool.slot.has_unknown_login_error() {
            reasons.push(format!(
                "logins with the active credentials of pool {name:?} fail; see its last_error"
            ));
        }
        if status.serving
            && let Some(margin) = missing_margin(status.remaining, status.lifetime)
        {
            reasons.push(format!(
                "the lease of pool {name:?} has less than {margin} left"
            ));
        }
        if pool.child.is_over_budget(now) {
            reasons.push(format!("the actor of pool {name:?} keeps failing"));
        }
    }
    Readiness {
        ready: reasons.is_empty(),
        reasons,
        notes,
    }
}
