//! The error that many callers share: sqlx's idioms work on it, and other errors are no database
//! errors.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::error::Error as _;
use std::io::ErrorKind;
use std::time::Duration;

use claviger::error::{ConnectErrorKind, ProviderError, ProviderErrorKind};
use claviger::supervisor::ProviderRef;
use claviger::{Credentials, Handle, Supervisor, static_credentials};
use claviger_testkit::ScriptedProvider;
use futures_util::future::join_all;

use super::fixtures::pools::{PgPools, SharedError};
use super::fixtures::sqlx::postgres::{
    PgConnectOptions, PgDatabaseError, PgPoolOptions, PgSeverity,
};
use super::fixtures::{Fixture, backend_down, eventually, sqlx};

/// Returns the errors of `callers` concurrent queries.
async fn errors_of(db: &Handle<PgPools>, callers: usize) -> Vec<sqlx::Error> {
    let results = join_all((0..callers).map(|_| sqlx::query("SELECT 1").execute(db))).await;
    results.into_iter().filter_map(Result::err).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_caller_of_an_outage_can_downcast_the_rejection() {
    // With the short timeout no verification has failed yet; with the long one some have.
    for patience in [Duration::from_millis(500), Duration::from_secs(2)] {
        let fixture = Fixture::new().await;
        let options = fixture.pool_options(4).acquire_timeout(patience);
        let db = fixture.pool_with(options).await;
        fixture.set_password("another password").await;
        fixture.terminate_connections().await;
        fixture.provider.fail_next(1_000, backend_down());
        let mut errors = errors_of(&db, 8).await;
        // On a busy machine the first login may take longer than the timeout.
        while errors
            .iter()
            .all(|error| SharedError::connect_error(error).is_none())
        {
            errors = errors_of(&db, 8).await;
        }
        let shared: Vec<_> = errors
            .iter()
            .filter(|error| SharedError::connect_error(error).is_some())
            .collect();
        assert!(
            shared.len() >= 7,
            "the hazard: callers share one error, {errors:?}"
        );
        for error in shared {
            let database = error.as_database_error().expect("a database error");
            assert_eq!(
                (database.code().as_deref(), database.message()),
                (Some("28P01"), Fixture::REJECTION)
            );
            let original = database.downcast_ref::<PgDatabaseError>();
            assert_eq!(
                (original.severity(), original.code()),
                (PgSeverity::Fatal, "28P01")
            );
            assert!(original.routine().is_some(), "the details are there");
            assert!(database.try_downcast_ref::<PgDatabaseError>().is_some());
            let connect_error =
                SharedError::connect_error(error).expect("the library's classification");
            assert_eq!(
                (connect_error.kind(), connect_error.code()),
                (ConnectErrorKind::Rejected, Some("28P01"))
            );
            assert!(connect_error.cause().is_some());
        }
        // The error of a statement is sqlx's own and can be taken by value.
        fixture.provider.recover();
        fixture.provider.rotate();
        fixture.set_password("password-2").await;
        drop(fixture.supervisor.rotate_now("login").await);
        let served = || db.status().is_some_and(|status| status.serving);
        eventually("the pool serves callers again", served).await;
        let error = sqlx::query("SELECT nothing")
            .execute(&db)
            .await
            .expect_err("no such column");
        assert!(SharedError::connect_error(&error).is_none());
        let original = error
            .into_database_error()
            .expect("a database error")
            .downcast::<PgDatabaseError>();
        assert_eq!(original.code(), "42703");
    }
}

/// Registers a pool `orders` in the background, on a port where no server listens.
fn unreachable_pool(
    supervisor: &Supervisor,
    credentials: &ProviderRef<Credentials>,
) -> Handle<PgPools> {
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(1)
        .database("orders");
    let pool_options = PgPoolOptions::new().acquire_timeout(Duration::from_millis(300));
    supervisor
        .add_pool_in_background("orders", credentials, PgPools::new(options, pool_options))
        .expect("registered")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_is_an_io_error() {
    let supervisor = Supervisor::start();
    let credentials = supervisor
        .add_provider(
            "login",
            static_credentials(Credentials::new("app", "s3cret")),
        )
        .await
        .expect("a lease");
    let db = unreachable_pool(&supervisor, &credentials);
    eventually("the first verification failed", || {
        db.status()
            .is_some_and(|status| status.last_error.is_some())
    })
    .await;
    let errors = errors_of(&db, 8).await;
    assert_eq!(errors.len(), 8, "the hazard: every query fails");
    for error in errors {
        let sqlx::Error::Io(io) = &error else {
            unreachable!("{error:?}")
        };
        assert_eq!(io.kind(), ErrorKind::ConnectionRefused);
        let connect_error =
            SharedError::connect_error(&error).expect("the library's classification");
        assert_eq!(
            (connect_error.kind(), connect_error.code()),
            (ConnectErrorKind::Unreachable, None)
        );
        assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
        assert!(error.source().is_some(), "the cause is inside");
    }
}

#[tokio::test]
async fn a_provider_without_a_lease_is_an_io_error() {
    let supervisor = Supervisor::start();
    let provider = ScriptedProvider::new();
    provider.fail_next(
        1_000,
        ProviderError::new(ProviderErrorKind::Denied, "the policy was revoked"),
    );
    let credentials = supervisor
        .add_provider_in_background("login", provider)
        .expect("registered");
    let db = unreachable_pool(&supervisor, &credentials);
    eventually("the fetch failed", || {
        supervisor.status().providers[0].last_error.is_some()
    })
    .await;
    let errors = errors_of(&db, 8).await;
    assert_eq!(errors.len(), 8, "the hazard: every query fails");
    for error in errors {
        let sqlx::Error::Io(io) = &error else {
            unreachable!("{error:?}")
        };
        assert_eq!(io.kind(), ErrorKind::NotConnected);
        assert!(
            error.to_string().contains("the policy was revoked"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn invalid_settings_are_a_configuration_error() {
    let supervisor = Supervisor::start();
    let credentials = supervisor
        .add_provider("login", static_credentials(Credentials::new("app", "")))
        .await
        .expect("a lease");
    let db = unreachable_pool(&supervisor, &credentials);
    eventually("the first verification failed", || {
        db.status()
            .is_some_and(|status| status.last_error.is_some())
    })
    .await;
    let errors = errors_of(&db, 4).await;
    assert_eq!(errors.len(), 4, "the hazard: every query fails");
    for error in errors {
        assert!(matches!(error, sqlx::Error::Configuration(_)), "{error:?}");
        assert!(error.to_string().contains("password: is empty"), "{error}");
    }
}
