//! The rejection that many callers share: sqlx's idioms work on it.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::error::ConnectErrorKind;
use futures_util::future::join_all;

use super::fixtures::pools::SharedError;
use super::fixtures::{backend_down, eventually, sqlx};
use super::{DriverError, Fixture, Handle, Pools, is_complete_rejection};

/// Returns the errors of `callers` concurrent queries.
async fn errors_of(db: &Handle<Pools>, callers: usize) -> Vec<sqlx::Error> {
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
                (Some(Fixture::REJECTED), Fixture::REJECTION)
            );
            let original = database.downcast_ref::<DriverError>();
            assert!(is_complete_rejection(original), "{original:?}");
            assert!(database.try_downcast_ref::<DriverError>().is_some());
            let connect_error =
                SharedError::connect_error(error).expect("the library's classification");
            assert_eq!(
                (connect_error.kind(), connect_error.code()),
                (ConnectErrorKind::Rejected, Some(Fixture::REJECTED))
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
            .downcast::<DriverError>();
        assert!(!is_complete_rejection(&original), "{original:?}");
    }
}
