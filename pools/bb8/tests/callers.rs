//! needs: postgresql, quiet
//!
//! Results of callers whose login panics.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod kind;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use claviger_bb8::PgConnect;
use claviger_pool_laws::{Fixture, PATIENCE, Settings};
use claviger_testkit::ScriptedProvider;
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
