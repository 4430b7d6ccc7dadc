//! The OpenTelemetry instruments, with names, units and buckets of its semantic conventions.
//! Attributes have few values: never a revision, never a generation.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use crate::report::RotationTrigger;

/// Bucket boundaries in seconds that the conventions give for operations of a database client.
const SECONDS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
/// The same boundaries, extended to a drain deadline (60 s) and a long transaction.
const LONG_SECONDS: [f64; 12] = [
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// The pool's attribute in the semantic conventions for database clients.
const POOL_NAME: &str = "db.client.connection.pool.name";

/// The instruments of one supervisor. Without a meter, every method does nothing. Clones share the
/// instruments.
#[derive(Clone, Default)]
pub(crate) struct Meters(Option<Arc<Instruments>>);

struct Instruments {
    meter: Meter,
    refresh: Histogram<f64>,
    fetches: Counter<u64>,
    handover: Histogram<f64>,
    wait: Histogram<f64>,
    timeouts: Counter<u64>,
    drain: Histogram<f64>,
    abandoned: Counter<u64>,
    restarts: Counter<u64>,
}

impl Meters {
    pub(crate) fn new(meter: Meter) -> Self {
        let seconds = |name, description, buckets: &[f64]| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_description(description)
                .with_boundaries(buckets.to_vec())
                .build()
        };
        let counter = |name, unit, description| {
            meter
                .u64_counter(name)
                .with_unit(unit)
                .with_description(description)
                .build()
        };
        Self(Some(Arc::new(Instruments {
            refresh: seconds(
                "credential.refresh.duration",
                "Time from a rotation's trigger to its end; for a failed attempt, the time of the \
                 fetch",
                &SECONDS,
            ),
            fetches: counter("credential.fetches", "{fetch}", "Fetches from the backend"),
            handover: seconds(
                "pool.handover.duration",
                "Time from the verification of a lease to its publication, or to the error that \
                 ended the handover",
                &SECONDS,
            ),
            wait: seconds(
                "pool.rejected.wait",
                "Time that callers waited because their generation was rejected, expired or closed",
                &SECONDS,
            ),
            timeouts: counter(
                "db.client.connection.timeouts",
                "{timeout}",
                "Callers that got no connection before their deadline",
            ),
            drain: seconds(
                "pool.drain.duration",
                "Time until all connections of an old generation were closed",
                &LONG_SECONDS,
            ),
            abandoned: counter(
                "pool.drain.abandoned",
                "{drain}",
                "Old generations that still had connections at the drain deadline",
            ),
            restarts: counter(
                "supervisor.restarts",
                "{restart}",
                "Restarts of actors that failed",
            ),
            meter,
        })))
    }

    /// Returns the meter, for the observable instruments.
    pub(crate) fn meter(&self) -> Option<&Meter> {
        self.0.as_ref().map(|instruments| &instruments.meter)
    }

    /// Starts the counters of a provider's actor at zero, because the step from absent to 1 does
    /// not count as an increase.
    pub(crate) fn provider_registered(&self, provider: &str) {
        let Some(instruments) = &self.0 else { return };
        instruments.restarts.add(0, &attribute("actor", provider));
    }

    /// Starts the counters of a pool and its actor at zero.
    pub(crate) fn pool_registered(&self, pool: &str) {
        let Some(instruments) = &self.0 else { return };
        instruments.restarts.add(0, &attribute("actor", pool));
        instruments.abandoned.add(0, &attribute("pool", pool));
        instruments.timeouts.add(0, &attribute(POOL_NAME, pool));
    }

    pub(crate) fn fetched(
        &self,
        provider: &str,
        trigger: RotationTrigger,
        took: Duration,
        error_type: Option<&'static str>,
    ) {
        let Some(instruments) = &self.0 else { return };
        let mut attributes = attribute("provider", provider);
        attributes.push(KeyValue::new("trigger", trigger.as_str()));
        attributes.extend(error_type.map(|error_type| KeyValue::new("error.type", error_type)));
        instruments.fetches.add(1, &attributes);
        // A rehearsal is no refresh.
        if error_type.is_some() && trigger != RotationTrigger::Rehearsal {
            attributes.push(KeyValue::new("outcome", "failed"));
            instruments.refresh.record(took.as_secs_f64(), &attributes);
        }
    }

    pub(crate) fn refreshed(
        &self,
        provider: &str,
        trigger: RotationTrigger,
        outcome: &'static str,
        took: Duration,
    ) {
        let Some(instruments) = &self.0 else { return };
        let mut attributes = attribute("provider", provider);
        attributes.extend([
            KeyValue::new("trigger", trigger.as_str()),
            KeyValue::new("outcome", outcome),
        ]);
        instruments.refresh.record(took.as_secs_f64(), &attributes);
    }

    pub(crate) fn handed_over(&self, pool: &str, mode: &'static str, took: Duration) {
        self.handover(pool, KeyValue::new("mode", mode), took);
    }

    pub(crate) fn handover_failed(&self, pool: &str, error_type: &'static str, took: Duration) {
        self.handover(pool, KeyValue::new("error.type", error_type), took);
    }

    fn handover(&self, pool: &str, outcome: KeyValue, took: Duration) {
        let Some(instruments) = &self.0 else { return };
        let mut attributes = attribute("pool", pool);
        attributes.push(outcome);
        instruments.handover.record(took.as_secs_f64(), &attributes);
    }

    pub(crate) fn timed_out(&self, pool: &str) {
        let Some(instruments) = &self.0 else { return };
        instruments.timeouts.add(1, &attribute(POOL_NAME, pool));
    }

    pub(super) fn waited(&self, pool: &str, seconds: f64, error_type: Option<&'static str>) {
        let Some(instruments) = &self.0 else { return };
        let mut attributes = attribute("pool", pool);
        attributes.extend(error_type.map(|error_type| KeyValue::new("error.type", error_type)));
        instruments.wait.record(seconds, &attributes);
    }

    pub(crate) fn drained(&self, pool: &str, took: Duration) {
        let Some(instruments) = &self.0 else { return };
        instruments
            .drain
            .record(took.as_secs_f64(), &attribute("pool", pool));
    }

    pub(crate) fn drain_abandoned(&self, pool: &str) {
        let Some(instruments) = &self.0 else { return };
        instruments.abandoned.add(1, &attribute("pool", pool));
    }

    pub(crate) fn restarted(&self, actor: &str) {
        let Some(instruments) = &self.0 else { return };
        instruments.restarts.add(1, &attribute("actor", actor));
    }
}

fn attribute(key: &'static str, value: &str) -> Vec<KeyValue> {
    vec![KeyValue::new(key, value.to_owned())]
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meters").field(&self.0.is_some()).finish()
    }
}
