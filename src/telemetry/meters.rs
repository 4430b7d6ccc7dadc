//! The instruments of OpenTelemetry: names, units and buckets as its semantic conventions ask.
//! Attributes have few values: never a revision, never a generation.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use crate::trigger::RotationTrigger;

/// In seconds: the buckets that the conventions give for what a database client does.
const SECONDS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
/// The same, and on to where a drain deadline (60 s) and a long transaction are.
const LONG_SECONDS: [f64; 12] = [
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// Which pool, by the semantic conventions for database clients.
const POOL_NAME: &str = "db.client.connection.pool.name";

/// The instruments of a supervisor; of none for a handle that nobody supervises. Clones are the
/// same.
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
                "From a rotation's trigger to its end; of a failed attempt, how long the backend took",
                &SECONDS,
            ),
            fetches: counter(
                "credential.fetches",
                "{fetch}",
                "How often the backend was asked",
            ),
            handover: seconds(
                "pool.handover.duration",
                "From the verification of a lease to its publication, or to the fault that ended it",
                &SECONDS,
            ),
            wait: seconds(
                "pool.rejected.wait",
                "How long callers waited whose generation was rejected, expired or retired",
                &SECONDS,
            ),
            timeouts: counter(
                "db.client.connection.timeouts",
                "{timeout}",
                "Callers that got no connection before their deadline",
            ),
            drain: seconds(
                "pool.drain.duration",
                "How long the connections of an old generation took to go",
                &LONG_SECONDS,
            ),
            abandoned: counter(
                "pool.drain.abandoned",
                "{drain}",
                "Old generations whose connections outlived the drain deadline",
            ),
            restarts: counter(
                "supervisor.restarts",
                "{restart}",
                "Actors that failed and were started again",
            ),
            meter,
        })))
    }

    /// What observes how things stand is made by this one, too.
    pub(crate) fn meter(&self) -> Option<&Meter> {
        self.0.as_ref().map(|instruments| &instruments.meter)
    }

    /// What is counted of a provider's actor begins at zero: who sees a counter first with 1 does
    /// not see it rise.
    pub(crate) fn provider_registered(&self, provider: &str) {
        let Some(instruments) = &self.0 else { return };
        instruments.restarts.add(0, &about("actor", provider));
    }

    /// The same of a pool and its actor.
    pub(crate) fn pool_registered(&self, pool: &str) {
        let Some(instruments) = &self.0 else { return };
        instruments.restarts.add(0, &about("actor", pool));
        instruments.abandoned.add(0, &about("pool", pool));
        instruments.timeouts.add(0, &about(POOL_NAME, pool));
    }

    pub(crate) fn fetched(
        &self,
        provider: &str,
        trigger: RotationTrigger,
        took: Duration,
        error_type: Option<&'static str>,
    ) {
        let Some(instruments) = &self.0 else { return };
        let mut attributes = about("provider", provider);
        attributes.push(KeyValue::new("trigger", trigger.as_str()));
        attributes.extend(error_type.map(|error_type| KeyValue::new("error.type", error_type)));
        instruments.fetches.add(1, &attributes);
        if error_type.is_some() {
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
        let mut attributes = about("provider", provider);
        attributes.extend([
            KeyValue::new("trigger", trigger.as_str()),
            KeyValue::new("outcome", outcome),
        ]);
        instruments.refresh.record(took.as_secs_f64(), &attributes);
    }

    pub(crate) fn handed_over(&self, pool: &str, how: &'static str, took: Duration) {
        self.handover(pool, KeyValue::new("how", how), took);
    }

    pub(crate) fn not_handed_over(&self, pool: &str, error_type: &'static str, took: Duration) {
        self.handover(pool, KeyValue::new("error.type", error_type), took);
    }

    fn handover(&self, pool: &str, end: KeyValue, took: Duration) {
        let Some(instruments) = &self.0 else { return };
        let mut attributes = about("pool", pool);
        attributes.push(end);
        instruments.handover.record(took.as_secs_f64(), &attributes);
    }

    pub(crate) fn timed_out(&self, pool: &str) {
        let Some(instruments) = &self.0 else { return };
        instruments.timeouts.add(1, &about(POOL_NAME, pool));
    }

    pub(super) fn waited(&self, pool: &str, seconds: f64, error_type: Option<&'static str>) {
        let Some(instruments) = &self.0 else { return };
        let mut attributes = about("pool", pool);
        attributes.extend(error_type.map(|error_type| KeyValue::new("error.type", error_type)));
        instruments.wait.record(seconds, &attributes);
    }

    pub(crate) fn drained(&self, pool: &str, took: Duration) {
        let Some(instruments) = &self.0 else { return };
        instruments
            .drain
            .record(took.as_secs_f64(), &about("pool", pool));
    }

    pub(crate) fn drain_abandoned(&self, pool: &str) {
        let Some(instruments) = &self.0 else { return };
        instruments.abandoned.add(1, &about("pool", pool));
    }

    pub(crate) fn restarted(&self, actor: &str) {
        let Some(instruments) = &self.0 else { return };
        instruments.restarts.add(1, &about("actor", actor));
    }
}

fn about(what: &'static str, name: &str) -> Vec<KeyValue> {
    vec![KeyValue::new(what, name.to_owned())]
}

impl fmt::Debug for Meters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meters").field(&self.0.is_some()).finish()
    }
}
