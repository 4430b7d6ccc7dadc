//! needs: postgresql, quiet
//!
//! Callers of a full pool, and callers whose login panics.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod kind;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use claviger::lease::OldConnections;
use claviger_bb8::PgConnect;
use claviger_pool_laws::{Fixture, ONE, PATIENCE, PgKind, Settings};
use claviger_testkit::ScriptedProvider;
use futures_util::FutureExt;
use tokio::time::timeout;

use kind::Bb8;

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_a_hook_is_an_error_and_costs_no_place() {
    let panics = Arc::new(AtomicBool::new(false));
    let armed = Arc::clone(&panics);
    let set = |connect: PgConnect| {
        connect.with_after_connect(move |_| {
            assert!(!armed.load(Ordering::Relaxed), "the hook panics");
            Box::pin(async { Ok(()) })
        })
    };
    let (provider, settings) = (ScriptedProvider::new(), Settings::of(1));
    let fixture = Fixture::<Bb8>::with_connect(provider, settings, set).await;
    let pool = &fixture.pool;
    panics.store(true, Ordering::Relaxed);
    let error = pool.get().await.map(drop).expect_err("it panics");
    assert!(error.to_string().contains("panicked"), "{error}");
    panics.store(false, Ordering::Relaxed);
    let again = timeout(PATIENCE, pool.get()).await.expect("there is room");
    drop(again.expect("a connection"));
}

/// A caller that returns a connection and calls again at once would take the same one from bb8,
/// before a caller that has waited for longer.
#[tokio::test(flavor = "multi_thread")]
async fn callers_of_a_full_pool_are_served_in_the_order_of_their_calls() {
    /// Calls until the waiting one counts as never served.
    const CALLS: usize = 200;
    let fixture = Fixture::<Bb8>::new(OldConnections::Keep, Settings::of(1)).await;
    let pool = &fixture.pool;
    for rotates in [false, true] {
        let mut connection = pool.get().await.expect("a connection");
        let mut waiting = pin!(pool.get());
        let first = waiting.as_mut().now_or_never();
        assert!(first.is_none(), "the hazard: the pool is full");
        if rotates {
            fixture.rotate().await;
        }
        let calls = async {
            for _ in 0..CALLS {
                Bb8::value(&mut connection, ONE).await.expect("a result");
                drop(connection);
                connection = pool.get().await.expect("a connection");
            }
        };
        let is_served = tokio::select! {
            biased;
            () = calls => false,
            got = waiting => got.map(drop).is_ok(),
        };
        assert!(is_served, "{CALLS} later calls were served before");
    }
}
