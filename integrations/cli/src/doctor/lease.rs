//! The lifetime of a lease, against the time that a rotation needs.

use std::time::Duration;

use crate::finding::{Finding, Step};

/// Lifetime from which one fetch, of 30 s at most, fits into it.
const SHORTEST: Duration = Duration::from_secs(30);
/// Lifetime below which a note is made: an outage of the backend as long ends the service.
const SHORT: Duration = Duration::from_secs(60);

/// Returns the finding for the remaining lifetime of a new lease, which is not one of tokens.
/// `None` if it is long enough.
pub(super) fn short_finding(remaining: Option<Duration>) -> Option<Finding> {
    let remaining = remaining.filter(|remaining| *remaining < SHORT)?;
    // A part of a second has passed since the fetch.
    let seconds = remaining.as_secs_f64().ceil();
    let lease = format!("a new lease is valid for {seconds:.0} s");
    let finding = if remaining < SHORTEST {
        let detail = format!("{lease}: a slow fetch (30 s at most) outlasts it");
        Finding::problem(Step::Lifetime, "lease_too_short", detail)
    } else {
        let detail = format!("{lease}: an outage of the backend for as long ends the service");
        Finding::note(Step::Lifetime, "lease_short", detail)
    };
    Some(
        finding
            .with_next(
                "raise `default_ttl` and `max_ttl` of the role to an hour or so; a number without \
                 a unit is in seconds",
            )
            .with_next(
                "or the TTL of the token that the service gets at its login: a lease ends with it",
            ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_longer_than_a_fetch() {
        let cause = |seconds| {
            let finding = short_finding(Some(Duration::from_secs(seconds)));
            finding.map(|finding| (finding.cause.unwrap_or_default(), finding.is_problem()))
        };
        assert_eq!(cause(3), Some(("lease_too_short", true)));
        assert_eq!(cause(20), Some(("lease_too_short", true)));
        assert_eq!(cause(30), Some(("lease_short", false)));
        assert_eq!(cause(60), None);
        assert_eq!(short_finding(None), None);
    }
}
