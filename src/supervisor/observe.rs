//! The observable OpenTelemetry instruments: the values of [`Status`](crate::status::Status), read
//! at each collection.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, AsyncInstrumentBuilder};

use super::inner::Inner;
use super::readiness;
use crate::status::{PoolStatus, ProviderStatus};

/// Registers the observable instruments. OpenTelemetry cannot unregister them; after the
/// supervisor is dropped they report nothing.
pub(super) fn register(inner: &Arc<Inner>) {
    let Some(meter) = inner.context.meters.meter() else {
        return;
    };
    read(
        inner,
        meter
            .u64_observable_gauge("supervisor.ready")
            .with_unit("{supervisor}")
            .with_description(
                "1 while every credential is valid and verified, as in readiness, else 0",
            ),
        |inner| vec![readiness::readiness(inner).ready],
        |ready, observer| observer.observe((*ready).into(), &[]),
    )
    .build();
    read(
        inner,
        meter
            .f64_observable_gauge("credential.expiration")
            .with_unit("s")
            .with_description(
                "Time until the current lease expires, by the earlier of the two clocks; absent \
                 for a lease without an expiry",
            ),
        providers,
        |provider, observer| {
            if let Some(remaining) = provider.remaining {
                let name = KeyValue::new("provider", provider.name.to_string());
                observer.observe(remaining.as_secs_f64(), &[name]);
            }
        },
    )
    .build();
    read(
        inner,
        meter
            .u64_observable_gauge("credential.held")
            .with_unit("{provider}")
            .with_description(
                "1 while the provider is held, so that its current lease stays, else 0",
            ),
        providers,
        |provider, observer| {
            let name = KeyValue::new("provider", provider.name.to_string());
            observer.observe(provider.held.is_some().into(), &[name]);
        },
    )
    .build();
    read(
        inner,
        meter
            .u64_observable_gauge("credential.generation")
            .with_unit("{generation}")
            .with_description("The current generation of a pool; 0 before the first verification"),
        pools,
        |pool, observer| {
            let name = KeyValue::new("pool", pool.name.to_string());
            observer.observe(pool.generation, &[name]);
        },
    )
    .build();
    let connections = |name, description, observe| {
        let counter = meter.i64_observable_up_down_counter(name);
        let counter = counter.with_unit("{connection}");
        read(inner, counter.with_description(description), pools, observe).build();
    };
    connections(
        "pool.drain.connections",
        "Open connections of old generations",
        |pool, observer| {
            let draining = pool.draining.iter();
            let draining = draining.map(|drain| i64::from(drain.connections)).sum();
            let name = KeyValue::new("pool", pool.name.to_string());
            observer.observe(draining, &[name]);
        },
    );
    connections(
        "db.client.connection.count",
        "Open connections of the current generation",
        |pool, observer| {
            let used = pool.connections.saturating_sub(pool.idle);
            for (state, connections) in [("idle", pool.idle), ("used", used)] {
                let state = KeyValue::new("db.client.connection.state", state);
                observer.observe(connections.into(), &[pool_name(pool), state]);
            }
        },
    );
    connections(
        "db.client.connection.max",
        "Maximum number of connections of one generation",
        |pool, observer| observer.observe(pool.max_connections.into(), &[pool_name(pool)]),
    );
}

/// Makes an instrument observe each item of a list that is read at each collection.
fn read<'m, I, M, T>(
    inner: &Arc<Inner>,
    instrument: AsyncInstrumentBuilder<'m, I, M>,
    list: fn(&Inner) -> Vec<T>,
    observe: fn(&T, &dyn AsyncInstrument<M>),
) -> AsyncInstrumentBuilder<'m, I, M>
where
    T: 'static,
    M: 'static,
{
    let inner = Arc::downgrade(inner);
    instrument.with_callback(move |observer| {
        let list = inner.upgrade().map(|inner| list(&inner));
        for item in list.unwrap_or_default() {
            observe(&item, observer);
        }
    })
}

fn providers(inner: &Inner) -> Vec<ProviderStatus> {
    let providers = inner.lock().providers();
    let providers = providers.iter();
    providers.map(|provider| provider.slot.status()).collect()
}

/// Returns the status of all pools, removed ones too while they have connections.
fn pools(inner: &Inner) -> Vec<PoolStatus> {
    let pools = inner.lock().pools_and_leaving();
    pools.iter().map(|pool| pool.slot.status()).collect()
}

fn pool_name(pool: &PoolStatus) -> KeyValue {
    KeyValue::new("db.client.connection.pool.name", pool.name.to_string())
}
