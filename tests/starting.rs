//! needs: postgresql
//!
//! A start during a rotation: a rejection may be temporary. It is retried within the login budget
//! until the deadline; then the error has the SQLSTATE.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::error::{ConnectErrorKind, ErrorKind, ProviderError, ProviderErrorKind};
use claviger::{Credentials, Lease, Supervisor, provider_fn};
use claviger_fixtures::{Fixture, eventually, query};
use tokio::time::Instant;

async fn fixture(start_deadline: Duration) -> Fixture {
    Fixture::with_builder(Supervisor::builder().with_start_deadline(start_deadline)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_rejected_until_the_deadline_returns_the_sqlstate() {
    // The deadline allows three attempts within a second and a half, then one per seventh of the
    // window.
    let fixture = fixture(Duration::from_secs(6)).await;
    fixture.set_password("another password").await;
    let credentials = fixture.add_provider().await;
    let began = Instant::now();
    let error = fixture
        .supervisor
        .add_pool("orders", &credentials, fixture.pools(4))
        .await
        .expect_err("rejected");
    assert!(
        began.elapsed() >= Duration::from_secs(6),
        "rejected after {:?}",
        began.elapsed()
    );
    let connect_error = error.connect_error().expect("the database's error");
    assert_eq!(
        (error.kind(), connect_error.kind(), connect_error.code()),
        (ErrorKind::Pool, ConnectErrorKind::Rejected, Some("28P01"))
    );
    assert!(
        error.is_transient() && error.to_string().contains("28P01"),
        "{error}"
    );
    let port = fixture.server.port();
    for part in [
        "pool \"orders\"",
        "provider \"login\"",
        "user \"app\"",
        &format!("127.0.0.1:{port}"),
        "database \"orders\"",
    ] {
        assert!(
            error.to_string().contains(part),
            "{part} is missing: {error}"
        );
    }
    assert_eq!(
        connect_error.message(),
        Fixture::REJECTION,
        "the database's own message"
    );
    assert!(
        (3..=5).contains(&fixture.rejected_logins()),
        "{} failed logins",
        fixture.rejected_logins()
    );
    assert!(
        (2..=4).contains(&fixture.provider.calls().len()),
        "only the start and the bucket's tokens fetch: {}",
        fixture.provider.calls().len()
    );
    assert!(
        fixture.supervisor.status().pools.is_empty(),
        "nothing stays registered"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_succeeds_once_the_password_is_accepted() {
    let fixture = fixture(Duration::from_secs(20)).await;
    fixture.set_password("password-2").await;
    let credentials = fixture.add_provider().await;
    let starting = tokio::spawn({
        let (supervisor, pools) = (fixture.supervisor.clone(), fixture.pools(4));
        async move { supervisor.add_pool("orders", &credentials, pools).await }
    });
    eventually("a login was rejected", || fixture.rejected_logins() >= 1).await;
    // The backend gets the new password and sends a hint.
    fixture.provider.rotate();
    fixture.provider.hint();
    let db = starting
        .await
        .expect("no panic")
        .expect("the start succeeds");
    assert_eq!(db.generation(), 1);
    query(&db).await.expect("the query succeeds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_a_database_that_is_down() {
    let fixture = fixture(Duration::from_secs(20)).await;
    fixture
        .on_the_server(|server| server.stop().expect("the server stops"))
        .await;
    let credentials = fixture.add_provider().await;
    let starting = tokio::spawn({
        let (supervisor, pools) = (fixture.supervisor.clone(), fixture.pools(4));
        async move { supervisor.add_pool("orders", &credentials, pools).await }
    });
    eventually("a verification failed", || {
        fixture
            .supervisor
            .status()
            .pools
            .first()
            .is_some_and(|pool| pool.last_error.is_some())
    })
    .await;
    let error = fixture.supervisor.status().pools[0]
        .last_error
        .clone()
        .expect("the verification failed");
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable);
    fixture
        .on_the_server(|server| server.start_again().expect("the server starts"))
        .await;
    starting
        .await
        .expect("no panic")
        .expect("the start succeeds");
    assert_eq!(
        fixture.provider.calls().len(),
        1,
        "an unreachable server causes no fetch"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_fail_fast_the_first_failed_fetch_or_login_ends_the_start() {
    let fixture = Fixture::with_builder(Supervisor::builder().with_fail_fast()).await;
    let unavailable = || {
        provider_fn(|_| async {
            let kind = ProviderErrorKind::Unavailable;
            Err::<Lease<Credentials>, _>(ProviderError::new(kind, "no credentials for AWS"))
        })
    };
    let began = Instant::now();
    let supervisor = &fixture.supervisor;
    let error = supervisor.add_provider("absent", unavailable()).await;
    let error = error.expect_err("the first fetch failed");
    assert!(
        error.to_string().contains("no credentials for AWS"),
        "{error}"
    );

    let waiting = supervisor.add_provider_in_background("waiting", unavailable());
    let waiting = waiting.expect("it is registered");
    let error = supervisor
        .add_pool("waiting", &waiting, fixture.pools(4))
        .await;
    let error = error.expect_err("its provider has no lease");
    assert!(
        error.to_string().contains("no credentials for AWS"),
        "{error}"
    );

    fixture.set_password("another password").await;
    let credentials = fixture.add_provider().await;
    let error = supervisor
        .add_pool("orders", &credentials, fixture.pools(4))
        .await;
    let error = error.expect_err("the first login was rejected");
    let code = error.connect_error().and_then(|error| error.code());
    assert_eq!(code, Some("28P01"), "{error}");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "each start would wait for 30 s: {:?}",
        began.elapsed()
    );
}
