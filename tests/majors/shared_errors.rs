//! Errors that many callers share, and that are no database errors.

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
use super::fixtures::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use super::fixtures::{eventually, sqlx};

/// Returns the errors of `callers` concurrent queries.
async fn errors_of(db: &Handle<PgPools>, callers: usize) -> Vec<sqlx::Error> {
    let results = join_all((0..callers).map(|_| sqlx::query("SELECT 1").execute(db))).await;
    results.into_iter().filter_map(Result::err).collect()
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
