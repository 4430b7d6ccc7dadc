//! Checks of a service's settings; each error names the field and the allowed values.

use std::fmt;
use std::time::Duration;

use crate::context::Settings;
use crate::error::Error;
use crate::pool::PoolSettings;

/// Longest duration that is allowed.
const MAX_DURATION: Duration = Duration::from_secs(24 * 3_600);

/// Checks the durations of a supervisor.
pub(super) fn settings(settings: &Settings) -> Result<(), Error> {
    const MIN_DURATION: Duration = Duration::from_millis(1);
    for (field, value, least) in [
        ("fetch_deadline", settings.fetch_deadline, MIN_DURATION),
        ("start_deadline", settings.start_deadline, MIN_DURATION),
        ("verify_deadline", settings.verify_deadline, MIN_DURATION),
        ("drain_deadline", settings.drain, MIN_DURATION),
        ("poll_interval", settings.poll, Duration::from_secs(1)),
        ("ready_margin", settings.ready_margin, Duration::ZERO),
        (
            "previous_lease_kept_for",
            settings.previous_lease_kept_for,
            Duration::ZERO,
        ),
    ] {
        if value < least || value > MAX_DURATION {
            let problem = format!(
                "{} is out of range; give between {} and 1day",
                humantime::format_duration(value),
                humantime::format_duration(least)
            );
            return Err(Error::invalid(field, problem));
        }
    }
    Ok(())
}

/// Checks the settings that a pool factory returned.
pub(super) fn pool(name: &str, settings: &PoolSettings) -> Result<(), Error> {
    const MAX_CONNECTIONS: u32 = 10_000;
    let max = settings.max_connections;
    let check = |is_valid: bool, field: &str, problem: fmt::Arguments<'_>| {
        let error = || Error::invalid(field, format!("{problem} (pool {name:?})"));
        if is_valid { Ok(()) } else { Err(error()) }
    };
    check(
        (1..=MAX_CONNECTIONS).contains(&max),
        settings.names.max_connections,
        format_args!("{max} is out of range; give between 1 and {MAX_CONNECTIONS}"),
    )?;
    check(
        settings.warm_connections <= max,
        "min_connections",
        format_args!(
            "{} is more than {}, {max}; give at most that",
            settings.warm_connections, settings.names.max_connections
        ),
    )?;
    check(
        (1..=max).contains(&settings.overlap),
        "overlap",
        format_args!(
            "{} is out of range; give between 1 and {}, {max}",
            settings.overlap, settings.names.max_connections
        ),
    )?;
    check(
        !settings.acquire_timeout.is_zero() && settings.acquire_timeout <= MAX_DURATION,
        settings.names.acquire_timeout,
        format_args!(
            "{} is out of range; give between 1ms and 1day",
            humantime::format_duration(settings.acquire_timeout)
        ),
    )
}

/// Checks a name, which appears in logs, spans and metrics.
pub(super) fn name(field: &str, name: &str) -> Result<(), Error> {
    if name.trim().is_empty() {
        return Err(Error::invalid(
            field,
            "is empty; give a name to find it by in logs and traces",
        ));
    }
    if name.len() > 200 || name.chars().any(char::is_control) {
        return Err(Error::invalid(
            field,
            "is longer than 200 bytes or has control characters; give a short printable name",
        ));
    }
    Ok(())
}
