//! Law 5: a rejection causes one fetch, however many callers. They share open connections, or get
//! the original error at once.

use std::time::Duration;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::lease::OldConnections;
use claviger::report::RotationTrigger;
use claviger_tokio_postgres::CallError;
use tokio::time::Instant;

use crate::fixture::{Fixture, ONE, PoolOf, eventually, eventually_within};
use crate::{PgKind, Settings};

const MAX: u32 = 10;
const CALLERS: usize = 1_000;

/// Takes a connection in a thousand tasks at once, and queries. Returns the errors.
async fn thousand_calls<K: PgKind>(pool: &PoolOf<K>) -> Vec<CallError> {
    let call = |_| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut connection = pool.get().await?;
            let queried = K::value(&mut connection, ONE).await;
            queried.expect("a connection that was handed out works");
            Ok(())
        })
    };
    let calls: Vec<_> = (0..CALLERS).map(call).collect();
    let mut errors = Vec::new();
    for call in calls {
        errors.extend(call.await.expect("no panic").err());
    }
    errors
}

fn assert_within_the_budget<K: PgKind>(fixture: &Fixture<K>) {
    let failed = fixture.failed_logins();
    assert!(
        (1..=MAX as usize + 3).contains(&failed),
        "the hazard: logins fail; {failed} did"
    );
}

fn backend_down() -> ProviderError {
    ProviderError::new(ProviderErrorKind::Unavailable, "the backend is down")
}

pub async fn law_05_a_thousand_rejected_callers_cause_one_fetch<K: PgKind>() {
    let fixture = Fixture::<K>::new(OldConnections::Drain, Settings::of(MAX)).await;
    drop(fixture.hold(3).await);
    // An unannounced rotation: the backend has the password before the fetch.
    let next = fixture.provider.rotate();
    fixture.set_password(&next);
    let errors = thousand_calls::<K>(&fixture.pool).await;
    assert!(
        errors.is_empty(),
        "{} such as {:?}",
        errors.len(),
        errors[0]
    );
    eventually("the next generation is published", || {
        fixture.pool.generation() == 2
    })
    .await;
    let calls = fixture.provider.calls();
    let after_rejection =
        |call: &&claviger_testkit::Call| call.trigger == RotationTrigger::Rejected;
    assert_eq!(calls.iter().filter(after_rejection).count(), 1);
    assert_eq!(calls.len(), 2);
    assert_within_the_budget(&fixture);
}

pub async fn law_05_callers_share_open_connections_while_the_backend_is_down<K: PgKind>() {
    let fixture = Fixture::<K>::new(OldConnections::Drain, Settings::of(MAX)).await;
    let taken = fixture.hold(3).await;
    fixture.set_password("another password");
    fixture.provider.fail_next(1_000, backend_down());
    // While idle, the three connections would serve every caller, and none would log in.
    let first = tokio::spawn({
        let pool = fixture.pool.clone();
        async move { pool.get().await.map(drop) }
    });
    eventually("the lease is rejected", || {
        fixture.pool.status().is_some_and(|status| status.rejected)
    })
    .await;
    drop(taken);
    first.await.expect("no panic").expect("an open connection");
    let began = Instant::now();
    let errors = thousand_calls::<K>(&fixture.pool).await;
    assert!(
        errors.len() <= 50,
        "{} such as {:?}",
        errors.len(),
        errors[0]
    );
    assert_within_the_budget(&fixture);
    // The bucket has three tokens and gets another every ten seconds.
    let refilled = began.elapsed().as_secs() as usize / 10;
    assert!(fixture.provider.calls().len() <= 1 + 3 + refilled);
}

pub async fn law_05_without_a_timely_attempt_the_original_rejection_is_returned<K: PgKind>() {
    let patience = Duration::from_secs(2);
    let settings = Settings {
        acquire_timeout: patience,
        ..Settings::of(4)
    };
    let fixture = Fixture::<K>::new(OldConnections::Drain, settings).await;
    fixture.set_password("another password");
    fixture.terminate_connections();
    fixture.provider.fail_next(1_000, backend_down());
    let retrying = tokio::spawn({
        let pool = fixture.pool.clone();
        async move {
            loop {
                drop(pool.get().await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
    // After the first attempts, the next one is due later than callers wait.
    eventually_within(Duration::from_secs(20), "attempts have failed", || {
        let status = fixture.pool.status();
        let next = status.and_then(|status| status.next_verification);
        fixture.provider.calls().len() == 4
            && next.is_some_and(|next| next > patience + Duration::from_secs(1))
    })
    .await;
    retrying.abort();
    let began = Instant::now();
    let errors = thousand_calls::<K>(&fixture.pool).await;
    assert!(began.elapsed() < patience, "waited {:?}", began.elapsed());
    assert_eq!(errors.len(), CALLERS);
    for error in &errors {
        assert_eq!(error.code(), Some("28P01"), "{error}");
        let original = error.postgres_error().and_then(|error| error.as_db_error());
        let original = original.expect("the driver's own error");
        assert!(
            original
                .message()
                .contains("password authentication failed")
        );
    }
}
