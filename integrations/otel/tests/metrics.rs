//! Metrics of rotations: names, units, buckets and values. No attribute is a revision or a
//! generation.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use claviger::error::{ConnectError, ConnectErrorKind, ProviderError, ProviderErrorKind};
use claviger::lease::{Expiry, OldConnections, Timestamp};
use claviger::{Credentials, Lease, Revision, Supervisor};
use claviger_otel::WithMeter;
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use tokio::time::sleep;

struct Collector {
    exporter: InMemoryMetricExporter,
    provider: SdkMeterProvider,
}

#[derive(Debug, Default)]
struct Collected {
    /// Unit by name.
    units: BTreeMap<String, String>,
    /// Value by name and attributes; for a histogram, the count.
    values: BTreeMap<String, f64>,
    /// Bounds of the buckets by name.
    bounds: BTreeMap<String, Vec<f64>>,
}

impl Collected {
    fn value(&self, point: &str) -> Option<f64> {
        self.values.get(point).copied()
    }

    fn add<'a>(&mut self, name: &str, attributes: impl Iterator<Item = &'a KeyValue>, value: f64) {
        let attributes: BTreeMap<_, _> = attributes
            .map(|attribute| (attribute.key.as_str(), attribute.value.to_string()))
            .collect();
        let attributes: Vec<_> = attributes
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        self.values
            .insert(format!("{name} {{{}}}", attributes.join(", ")), value);
    }
}

impl Collector {
    fn new() -> Self {
        let exporter = InMemoryMetricExporter::default();
        let provider = SdkMeterProvider::builder()
            .with_reader(PeriodicReader::builder(exporter.clone()).build())
            .build();
        Self { exporter, provider }
    }

    fn lab(&self) -> Lab {
        Lab::with_builder(Supervisor::builder().with_meter(self.provider.meter("claviger")))
            .expect("the durations are valid")
    }

    fn collect(&self) -> Collected {
        self.exporter.reset();
        self.provider.force_flush().expect("it is collected");
        let mut collected = Collected::default();
        for resource in self.exporter.get_finished_metrics().expect("no panic") {
            for metric in resource.scope_metrics().flat_map(|scope| scope.metrics()) {
                let name = metric.name();
                collected
                    .units
                    .insert(name.to_owned(), metric.unit().to_owned());
                match metric.data() {
                    AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
                        for point in histogram.data_points() {
                            collected
                                .bounds
                                .insert(name.to_owned(), point.bounds().collect());
                            collected.add(name, point.attributes(), point.count() as f64);
                        }
                    }
                    AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
                        gauge.data_points().for_each(|point| {
                            collected.add(name, point.attributes(), point.value())
                        });
                    }
                    AggregatedMetrics::U64(MetricData::Gauge(gauge)) => {
                        gauge.data_points().for_each(|point| {
                            collected.add(name, point.attributes(), point.value() as f64)
                        });
                    }
                    AggregatedMetrics::U64(MetricData::Sum(sum)) => {
                        sum.data_points().for_each(|point| {
                            collected.add(name, point.attributes(), point.value() as f64)
                        });
                    }
                    AggregatedMetrics::I64(MetricData::Sum(sum)) => {
                        sum.data_points().for_each(|point| {
                            collected.add(name, point.attributes(), point.value() as f64)
                        });
                    }
                    other => panic!("{name} has another type: {other:?}"),
                }
            }
        }
        collected
    }
}

#[tokio::test(start_paused = true)]
async fn every_metric_is_recorded() {
    let collector = Collector::new();
    let lab = collector.lab();
    let (provider, database) = (ScriptedProvider::new(), ScriptedPools::new(10));
    let lease = |number: &str| {
        Lease::new(
            Credentials::new("app", format!("password-{number}")),
            Revision::new(number.to_owned()),
        )
        .with_old_connections(OldConnections::Drain)
        .with_expiry(Expiry::after(Timestamp::now(), Duration::from_secs(3_600)))
    };
    provider.return_next(lease("1"));
    let credentials = lab
        .supervisor
        .add_provider("orders-credentials", provider.clone())
        .await
        .expect("a lease");
    let pool = lab
        .supervisor
        .add_pool("orders", &credentials, database.clone())
        .await
        .expect("verified");
    let connection = pool.current().connection();

    // Counters start at zero, because only then is their first increase visible.
    let at_first = collector.collect();
    for point in [
        "pool.drain.abandoned {pool=orders}",
        "supervisor.restarts {actor=orders}",
        "supervisor.restarts {actor=orders-credentials}",
    ] {
        assert_eq!(
            at_first.value(point),
            Some(0.0),
            "{point} in {:#?}",
            at_first.values
        );
    }

    // The backend is down once, a verification fails once, an actor fails, and a connection is open
    // after the drain deadline.
    provider.fail_next(
        1,
        ProviderError::new(ProviderErrorKind::Unavailable, "the backend is down"),
    );
    provider.return_next(lease("2"));
    database.accept_only(["password-2"]);
    database.fail_next(
        1,
        ConnectError::new(ConnectErrorKind::Unreachable, "connection refused"),
    );
    lab.failpoints.set("orders", "pool.wake", 1);
    assert!(
        pool.rejected(
            1,
            &ConnectError::new(ConnectErrorKind::Rejected, "password authentication failed")
                .with_code("28P01")
        )
    );
    sleep(Duration::from_secs(70)).await;
    let while_draining = collector.collect();
    assert_eq!(
        while_draining.value("pool.drain.connections {pool=orders}"),
        Some(1.0)
    );
    drop(connection);
    sleep(Duration::from_secs(1)).await;

    let collected = collector.collect();
    for (point, expected) in [
        (
            "credential.fetches {provider=orders-credentials, trigger=start}",
            1.0,
        ),
        (
            "credential.fetches {error.type=unavailable, provider=orders-credentials, trigger=rejected}",
            1.0,
        ),
        (
            "credential.fetches {provider=orders-credentials, trigger=rejected}",
            1.0,
        ),
        (
            "credential.refresh.duration {outcome=adopted, provider=orders-credentials, trigger=start}",
            1.0,
        ),
        (
            "credential.refresh.duration {outcome=adopted, provider=orders-credentials, trigger=rejected}",
            1.0,
        ),
        (
            "credential.refresh.duration {error.type=unavailable, outcome=failed, provider=orders-credentials, trigger=rejected}",
            1.0,
        ),
        ("pool.handover.duration {mode=replace, pool=orders}", 2.0),
        (
            "pool.handover.duration {error.type=unreachable, pool=orders}",
            1.0,
        ),
        ("pool.drain.abandoned {pool=orders}", 1.0),
        ("pool.drain.duration {pool=orders}", 1.0),
        ("pool.drain.connections {pool=orders}", 0.0),
        ("supervisor.restarts {actor=orders}", 1.0),
        ("supervisor.restarts {actor=orders-credentials}", 0.0),
        ("supervisor.ready {}", 1.0),
        ("credential.generation {pool=orders}", 2.0),
        ("credential.held {provider=orders-credentials}", 0.0),
        // It was opened before the rejected pool was used again.
        (
            "db.client.connection.count {db.client.connection.pool.name=orders, db.client.connection.state=idle}",
            1.0,
        ),
        (
            "db.client.connection.count {db.client.connection.pool.name=orders, db.client.connection.state=used}",
            0.0,
        ),
        (
            "db.client.connection.max {db.client.connection.pool.name=orders}",
            10.0,
        ),
        (
            "db.client.connection.timeouts {db.client.connection.pool.name=orders}",
            0.0,
        ),
    ] {
        assert_eq!(
            collected.value(point),
            Some(expected),
            "{point} in {:#?}",
            collected.values
        );
    }
    let left = collected
        .value("credential.expiration {provider=orders-credentials}")
        .expect("it expires");
    assert!((3_500.0..3_600.0).contains(&left), "{left} s remain");

    let units: Vec<_> = collected
        .units
        .iter()
        .map(|(name, unit)| format!("{name} {unit}"))
        .collect();
    insta::assert_snapshot!(units.join("\n"), @r"
    credential.expiration s
    credential.fetches {fetch}
    credential.generation {generation}
    credential.held {provider}
    credential.refresh.duration s
    db.client.connection.count {connection}
    db.client.connection.max {connection}
    db.client.connection.timeouts {timeout}
    pool.drain.abandoned {drain}
    pool.drain.connections {connection}
    pool.drain.duration s
    pool.handover.duration s
    supervisor.ready {supervisor}
    supervisor.restarts {restart}
    ");
    let conventions = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
    for (name, bounds) in &collected.bounds {
        assert!(bounds.starts_with(&conventions), "{name}: {bounds:?}");
    }

    // No attribute identifies a single rotation.
    let allowed = [
        "provider",
        "trigger",
        "outcome",
        "error.type",
        "pool",
        "mode",
        "actor",
        "db.client.connection.pool.name",
        "db.client.connection.state",
    ];
    for point in collected.values.keys() {
        let (_, attributes) = point.split_once(" {").expect("it has attributes");
        // The supervisor has no attribute.
        if point == "supervisor.ready {}" {
            continue;
        }
        for attribute in attributes.trim_end_matches('}').split(", ") {
            let (name, value) = attribute.split_once('=').expect("it has a value");
            assert!(allowed.contains(&name), "{point}");
            assert!(
                !["6b86b273", "d4735e3a", "1", "2"].contains(&value),
                "{point}"
            );
        }
    }

    // A dropped supervisor reports nothing.
    lab.supervisor.shutdown(Duration::from_secs(5)).await;
    drop((lab, pool, credentials));
    sleep(Duration::from_secs(1)).await;
    let collected = collector.collect();
    assert_eq!(collected.value("supervisor.ready {}"), None);
    let observed: Vec<_> = collected
        .values
        .keys()
        .filter(|point| {
            point.starts_with("credential.generation")
                || point.starts_with("db.client.connection.count")
        })
        .collect();
    assert!(observed.is_empty(), "{observed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hold_is_measured_and_a_rehearsal_is_no_refresh() {
    let collector = Collector::new();
    let lab = collector.lab();
    let provider = ScriptedProvider::new();
    let credentials = lab
        .supervisor
        .add_provider("orders-credentials", provider.clone())
        .await
        .expect("a lease");
    lab.supervisor
        .hold("orders-credentials")
        .expect("it is held");
    let down = ProviderError::new(ProviderErrorKind::Unavailable, "the backend is down");
    provider.fail_next(1, down);
    let rehearsed = lab.supervisor.rehearse("orders-credentials").await;
    rehearsed.expect_err("the backend is down");
    let held = "credential.held {provider=orders-credentials}";
    let collected = collector.collect();
    assert_eq!(collected.value(held), Some(1.0));
    let fetches = "credential.fetches {error.type=unavailable, provider=orders-credentials, \
                   trigger=rehearsal}";
    assert_eq!(collected.value(fetches), Some(1.0));
    let refreshes = collected
        .values
        .keys()
        .filter(|point| point.starts_with("credential.refresh.duration"));
    assert_eq!(refreshes.count(), 1, "the start: {:#?}", collected.values);
    lab.supervisor
        .resume("orders-credentials")
        .expect("it was held");
    assert_eq!(collector.collect().value(held), Some(0.0));
    drop(credentials);
}

#[tokio::test(start_paused = true)]
async fn a_lease_without_an_expiry_has_no_expiration() {
    let collector = Collector::new();
    let lab = collector.lab();
    let _credentials = lab
        .supervisor
        .add_provider("orders-credentials", ScriptedProvider::new())
        .await
        .expect("a lease");
    let collected = collector.collect();
    assert_eq!(
        collected.value("credential.fetches {provider=orders-credentials, trigger=start}"),
        Some(1.0)
    );
    assert!(
        !collected.units.contains_key("credential.expiration"),
        "{:?}",
        collected.values
    );
}

/// Tests what `WithMeter::with_meter` documents.
#[tokio::test(start_paused = true)]
async fn two_supervisors_need_a_meter_each() {
    let collector = Collector::new();
    let lab = |scope: &'static str| {
        Lab::with_builder(Supervisor::builder().with_meter(collector.provider.meter(scope)))
            .expect("the durations are valid")
    };
    let (one, other, separate) = (lab("claviger"), lab("claviger"), lab("claviger.billing"));
    let _first = one
        .supervisor
        .add_provider("login", ScriptedProvider::new())
        .await
        .expect("a lease");
    let _second = other
        .supervisor
        .add_provider("login", ScriptedProvider::new())
        .await
        .expect("a lease");
    // This one has no lease and is not ready.
    let stalled = ScriptedProvider::new();
    stalled.stall();
    let _third = separate
        .supervisor
        .add_provider_in_background("billing-login", stalled.clone())
        .expect("it is registered");
    collector.provider.force_flush().expect("it is collected");
    let mut ready = Vec::new();
    for resource in collector.exporter.get_finished_metrics().expect("no panic") {
        for scope in resource.scope_metrics() {
            for metric in scope
                .metrics()
                .filter(|metric| metric.name() == "supervisor.ready")
            {
                if let AggregatedMetrics::U64(MetricData::Gauge(gauge)) = metric.data() {
                    ready.extend(
                        gauge
                            .data_points()
                            .map(|point| (scope.scope().name().to_owned(), point.value())),
                    );
                }
            }
        }
    }
    ready.sort();
    assert_eq!(
        ready,
        [
            ("claviger".to_owned(), 1),
            ("claviger.billing".to_owned(), 0)
        ]
    );
    stalled.resume();
}
