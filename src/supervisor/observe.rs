//! The observable OpenTelemetry instruments: the values of [`status`](super::status), read at each
//! collection.

use std::sync::{Arc, Weak};

use opentelemetry::KeyValue;

use super::inner::Inner;
use super::readiness;
use crate::status::{PoolStatus, ProviderStatus};

/// Registers the observable instruments. OpenTelemetry cannot unregister them; after the
/// supervisor is dropped they report nothing.
pub(super) fn register(inner: &Arc<Inner>) {
    let Some(meter) = inner.context.meters.meter() else {
        return;
    };
    let providers = |weak: &Weak<Inner>, observe: &mut dyn FnMut(&ProviderStatus)| {
        let providers = weak
            .upgrade()
            .map(|inner| inner.lock().providers())
            .unwrap_or_default();
        providers
            .iter()
            .for_each(|provider| observe(&provider.slot.status()));
    };
    let pools = |weak: &Weak<Inner>, observe: &mut dyn FnMut(&PoolStatus)| {
        // Removed pools are included while they still have connections.
        let pools = weak
            .upgrade()
            .map(|inner| inner.lock().pools_and_leaving())
            .unwrap_or_default();
        pools.iter().for_each(|pool| observe(&pool.slot.status()));
    };

    let weak = Arc::downgrade(inner);
    meter
        .u64_observable_gauge("supervisor.ready")
        .with_unit("{supervisor}")
        .with_description("1 while every credential is valid and verified, as in readiness, else 0")
        .with_callback(move |observer| {
            if let Some(inner) = weak.upgrade() {
                observer.observe(readiness::readiness(&inner).ready.into(), &[]);
            }
        })
        .build();

    let weak = Arc::downgrade(inner);
    meter
        .f64_observable_gauge("credential.expiration")
        .with_unit("s")
        .with_description("Time until the current lease expires, by the earlier of the two clocks; absent for a lease without an expiry")
        .with_callback(move |observer| {
            providers(&weak, &mut |provider| {
                if let Some(remaining) = provider.remaining {
                    observer.observe(remaining.as_secs_f64(), &[KeyValue::new("provider", provider.name.to_string())]);
                }
            });
        })
        .build();

    let weak = Arc::downgrade(inner);
    meter
        .u64_observable_gauge("credential.generation")
        .with_unit("{generation}")
        .with_description("The current generation of a pool; 0 before the first verification")
        .with_callback(move |observer| {
            pools(&weak, &mut |pool| {
                observer.observe(
                    pool.generation,
                    &[KeyValue::new("pool", pool.name.to_string())],
                )
            });
        })
        .build();

    let weak = Arc::downgrade(inner);
    meter
        .i64_observable_up_down_counter("pool.drain.connections")
        .with_unit("{connection}")
        .with_description("Open connections of old generations")
        .with_callback(move |observer| {
            pools(&weak, &mut |pool| {
                let draining: i64 = pool
                    .draining
                    .iter()
                    .map(|drain| i64::from(drain.connections))
                    .sum();
                observer.observe(draining, &[KeyValue::new("pool", pool.name.to_string())]);
            });
        })
        .build();

    let weak = Arc::downgrade(inner);
    meter
        .i64_observable_up_down_counter("db.client.connection.count")
        .with_unit("{connection}")
        .with_description("Open connections of the current generation")
        .with_callback(move |observer| {
            pools(&weak, &mut |pool| {
                let name = KeyValue::new("db.client.connection.pool.name", pool.name.to_string());
                let state = |state| KeyValue::new("db.client.connection.state", state);
                observer.observe(pool.idle.into(), &[name.clone(), state("idle")]);
                observer.observe(
                    pool.connections.saturating_sub(pool.idle).into(),
                    &[name, state("used")],
                );
            });
        })
        .build();

    let weak = Arc::downgrade(inner);
    meter
        .i64_observable_up_down_counter("db.client.connection.max")
        .with_unit("{connection}")
        .with_description("Maximum number of connections of one generation")
        .with_callback(move |observer| {
            pools(&weak, &mut |pool| {
                observer.observe(
                    pool.max_connections.into(),
                    &[KeyValue::new(
                        "db.client.connection.pool.name",
                        pool.name.to_string(),
                    )],
                );
            });
        })
        .build();
}
