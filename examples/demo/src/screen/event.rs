//! Events of the supervisor, as texts and as fields of JSON.

use std::time::Duration;

use claviger::events::Event;
use claviger::report::{HandoverMode, RotationOutcome};
use serde_json::{Value, json};

use super::counted;

const GOOD: &str = "32";
const WARNING: &str = "33";
const BAD: &str = "31";
const FAINT: &str = "2";

/// An event, ready to be printed.
pub(super) struct Line {
    pub(super) colour: &'static str,
    pub(super) text: String,
    /// Name of the event in JSON.
    pub(super) event: &'static str,
    pub(super) fields: Value,
}

/// Returns the line of an event, if the demo shows it.
pub(super) fn line(event: &Event) -> Option<Line> {
    let (event, colour, text, fields) = match event {
        Event::Rejected {
            pool,
            generation,
            error,
        } => {
            let error = error.message();
            (
                "rejected",
                WARNING,
                format!("{pool}: generation {generation} is rejected: {error}"),
                json!({ "pool": &**pool, "generation": generation, "error": error }),
            )
        }
        Event::VerificationFailed { pool, error } => {
            let error = error.message();
            (
                "not_verified",
                WARNING,
                format!("{pool}: not verified: {error} (the current generation stays in use)"),
                json!({ "pool": &**pool, "error": error }),
            )
        }
        Event::FetchFailed { provider, error } => (
            "not_fetched",
            WARNING,
            format!("{provider}: not fetched: {error}"),
            json!({ "provider": &**provider, "error": error.to_string() }),
        ),
        Event::HandedOver(report) => {
            let (mode, verb) = if report.mode == HandoverMode::InPlace {
                ("in_place", "in place")
            } else {
                ("replace", "replaced")
            };
            (
                "handed_over",
                GOOD,
                format!(
                    "{}: generation {} is current, {verb} in {} ms (verify {})",
                    report.pool,
                    report.generation,
                    ms(report.took),
                    ms(report.verify),
                ),
                json!({
                    "pool": &*report.pool,
                    "generation": report.generation,
                    "mode": mode,
                    "took_seconds": report.took.as_secs_f64(),
                    "verify_seconds": report.verify.as_secs_f64(),
                }),
            )
        }
        Event::Rotated(report) if report.outcome == RotationOutcome::Adopted => (
            "rotated",
            GOOD,
            format!(
                "{}: rotation ({}), {}, adopted after {} ms",
                report.provider,
                report.trigger,
                counted(report.attempts, "fetch"),
                ms(report.took),
            ),
            json!({
                "provider": &*report.provider,
                "trigger": report.trigger.to_string(),
                "fetches": report.attempts,
                "took_seconds": report.took.as_secs_f64(),
            }),
        ),
        Event::Drained {
            pool,
            generation,
            took,
        } => (
            "drained",
            FAINT,
            format!(
                "{pool}: generation {generation} has drained after {} ms",
                ms(*took)
            ),
            json!({
                "pool": &**pool,
                "generation": generation,
                "took_seconds": took.as_secs_f64(),
            }),
        ),
        Event::DrainAbandoned {
            pool,
            generation,
            connections,
        } => (
            "drain_abandoned",
            WARNING,
            format!(
                "{pool}: generation {generation} still has {connections} connections; they stay \
                 open"
            ),
            json!({ "pool": &**pool, "generation": generation, "connections": connections }),
        ),
        Event::Restarted { actor } => (
            "restarted",
            BAD,
            format!("the actor of {actor} was restarted"),
            json!({ "actor": &**actor }),
        ),
        Event::Missed(missed) => (
            "missed",
            BAD,
            format!("{missed} events were missed"),
            json!({ "events": missed }),
        ),
        _ => return None,
    };
    Some(Line {
        colour,
        text,
        event,
        fields,
    })
}

fn ms(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1_000.0;
    if ms < 100.0 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.0}")
    }
}
