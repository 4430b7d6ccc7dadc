//! Errors of calls, and the content of their messages.

use std::time::Duration;

use claviger::Credentials;
use claviger::lease::OldConnections;
use claviger::pool::PoolFactory;
use claviger_tokio_postgres::CallError;
use tokio::time::Instant;

use crate::fixture::{Fixture, PATIENCE};
use crate::{PgKind, Settings};

/// Allows or disallows logins to this database only.
fn allow_logins<K: PgKind>(fixture: &Fixture<K>, allowed: bool) {
    fixture.sql(&format!(
        "alter database orders allow_connections {allowed}"
    ));
}

pub async fn each_caller_gets_the_error_of_its_own_login<K: PgKind>() {
    let fixture = Fixture::<K>::new(OldConnections::Drain, Settings::of(1)).await;
    fixture.terminate_connections();
    allow_logins(&fixture, false);
    let began = Instant::now();
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let pool = fixture.pool.clone();
            tokio::spawn(async move { pool.get().await.map(drop) })
        })
        .collect();
    for call in calls {
        let error = call.await.expect("no panic").expect_err("not allowed");
        assert_eq!(error.code(), Some("55000"), "{error}");
    }
    assert!(began.elapsed() < PATIENCE, "no call waits for its timeout");
    let failed = fixture.logged("not currently accepting connections");
    assert!(failed >= 20, "each call has a login of its own: {failed}");
    allow_logins(&fixture, true);
    drop(fixture.pool.get().await.expect("a connection"));
}

pub async fn a_caller_gets_the_drivers_error<K: PgKind>() {
    let settings = Settings {
        acquire_timeout: Duration::from_secs(1),
        ..Settings::of(4)
    };
    let fixture = Fixture::<K>::new(OldConnections::Drain, settings).await;
    allow_logins(&fixture, false);
    let error = fixture.pool.get().await.map(drop).expect_err("not allowed");
    assert_eq!(error.code(), Some("55000"), "{error}");
    let original = error.postgres_error().and_then(|error| error.as_db_error());
    assert!(original.is_some());
    assert_eq!(fixture.provider.calls().len(), 1, "no fetch");
    allow_logins(&fixture, true);

    let busy = fixture.hold(4).await;
    let got = fixture.pool.get().await.map(drop);
    let error = got.expect_err("all are in use");
    assert!(matches!(error, CallError::TimedOut), "{error:?}");
    drop(busy);
}

pub async fn no_secret_is_shown<K: PgKind>() {
    let fixture = Fixture::<K>::new(OldConnections::Drain, Settings::of(4)).await;
    let pool = &fixture.pool;
    let factory = K::factory(fixture.connect(), Settings::of(4));
    let connection = pool.get().await.expect("a connection");
    let current = pool.current();
    let plain = K::take_from(&current).await.expect("a connection");
    fixture.set_password("another");
    let error = factory.verify(&Credentials::new("app", "password-1")).await;
    let error = CallError::Connect(error.expect_err("rejected"));
    let shown =
        format!("{factory:?} {pool:?} {current:?} {connection:?} {plain} {error:?} {error}");
    assert!(
        shown.contains("28P01") && shown.contains("127.0.0.1"),
        "{shown}"
    );
    assert!(!shown.contains("password-1"), "{shown}");
}
