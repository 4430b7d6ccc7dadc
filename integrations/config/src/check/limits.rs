//! Checks of sizes and durations.
//!
//! The limits are the library's. Its own errors name settings of the kind of pool, and not keys of
//! the file.

use std::time::Duration;

use crate::error::Problem;
use crate::resolved_pool::{Engine, ResolvedPool};
use crate::schema::{PoolDefaults, PoolKind, SupervisorSettings};
use crate::values::HumanDuration;

const MAX_CONNECTIONS: u32 = 10_000;
const DAY: Duration = Duration::from_secs(24 * 3_600);
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Checks the durations of the supervisor.
pub(super) fn check_supervisor(settings: &SupervisorSettings, problems: &mut Vec<Problem>) {
    for (key, duration, least) in [
        ("start_deadline", settings.start_deadline, MILLISECOND),
        ("fetch_deadline", settings.fetch_deadline, MILLISECOND),
        ("verify_deadline", settings.verify_deadline, MILLISECOND),
        ("drain_deadline", settings.drain_deadline, MILLISECOND),
        ("poll_interval", settings.poll_interval, SECOND),
        ("ready_margin", settings.ready_margin, Duration::ZERO),
        (
            "previous_lease_kept_for",
            settings.previous_lease_kept_for,
            Duration::ZERO,
        ),
    ] {
        let given = duration.map_or(least, |HumanDuration(duration)| duration);
        if !(least..=DAY).contains(&given) {
            let least = humantime::format_duration(least);
            let message = format!("is out of range; give from {least} to 1day");
            problems.push(Problem::new(format!("supervisor.{key}"), message));
        }
    }
}

/// Checks the values for pools that do not set them, so that not each pool repeats a problem.
pub(super) fn check_defaults(defaults: &PoolDefaults, problems: &mut Vec<Problem>) {
    let mut problem = |key: &str, message: String| {
        problems.push(Problem::new(format!("defaults.{key}"), message))
    };
    let of_connections = (defaults.max_connections, defaults.min_connections);
    check_connections(of_connections, &mut problem);
    check_durations(
        [
            defaults.connection_max_lifetime,
            defaults.idle_timeout,
            defaults.acquire_timeout,
        ],
        &mut problem,
    );
}

/// Checks sizes and durations of a pool.
pub(super) fn check_limits(pool: &ResolvedPool, problems: &mut Vec<Problem>) {
    let settings = &pool.settings;
    let mut problem =
        |key: &str, message: String| problems.push(Problem::new(pool.key(key), message));
    check_durations(
        [
            settings.connection_max_lifetime,
            settings.idle_timeout,
            settings.acquire_timeout,
        ],
        &mut problem,
    );
    let is_shared = pool.kind.engine() == Engine::Redis && pool.kind != PoolKind::RedisExclusive;
    if is_shared {
        return;
    }
    let most = pool.max_connections();
    let given = (settings.max_connections, settings.min_connections);
    if check_connections(given, &mut problem)
        && given != (None, None)
        && pool.min_connections() > most
    {
        let bound = format!("is over the {most} of `max_connections`; give at most that");
        let key = if settings.min_connections.is_some() {
            "min_connections"
        } else {
            "max_connections"
        };
        let bound = if key == "max_connections" {
            let least = pool.min_connections();
            format!("is below the {least} of `defaults.min_connections`; give at least that")
        } else {
            bound
        };
        problem(key, bound);
    }
    if settings
        .overlap
        .is_some_and(|overlap| !(1..=most).contains(&overlap))
    {
        let bound = format!("is out of range; give from 1 to the {most} of `max_connections`");
        problem("overlap", bound);
    }
}

/// Returns whether the numbers have no problem of their own.
fn check_connections(
    (most, least): (Option<u32>, Option<u32>),
    problem: &mut impl FnMut(&str, String),
) -> bool {
    match (most, least) {
        (Some(most), _) if !(1..=MAX_CONNECTIONS).contains(&most) => {
            let allowed =
                format!("is out of range; give at least 1, and at most {MAX_CONNECTIONS}");
            problem("max_connections", allowed);
            false
        }
        (Some(most), Some(least)) if least > most => {
            let bound = format!("is over the {most} of `max_connections`; give at most that");
            problem("min_connections", bound);
            false
        }
        _ => true,
    }
}

/// Checks maximum age, idle timeout and acquire timeout.
fn check_durations(
    [age, idle, acquire]: [Option<HumanDuration>; 3],
    problem: &mut impl FnMut(&str, String),
) {
    let is_below = |duration: Option<HumanDuration>, least: Duration| {
        duration.is_some_and(|HumanDuration(duration)| duration < least)
    };
    for (key, duration) in [("connection_max_lifetime", age), ("idle_timeout", idle)] {
        if is_below(duration, SECOND) {
            problem(key, "is below 1s; give one such as \"14m\"".into());
        }
    }
    if is_below(acquire, MILLISECOND) {
        problem("acquire_timeout", "is 0s; give at least 1ms".into());
    }
    if acquire.is_some_and(|HumanDuration(duration)| duration > DAY) {
        problem("acquire_timeout", "is over 1day; give less".into());
    }
}
