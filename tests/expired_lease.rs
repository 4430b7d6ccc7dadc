//! needs: postgresql
//!
//! After its lease expired a generation behaves as rejected: open connections are shared, no login
//! is made, and the error names the expiry.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::lease::OldConnections;
use claviger::sqlx_09::SharedError;
use claviger_fixtures::{Fixture, query, until_serving};
use claviger_testkit::ScriptedProvider;

#[tokio::test(flavor = "multi_thread")]
async fn no_login_uses_expired_credentials() {
    let provider = ScriptedProvider::new()
        .with_old_connections(OldConnections::Keep)
        .with_lifetime(Duration::from_secs(3_600));
    let fixture = Fixture::with(provider).await;
    let options = fixture
        .pool_options(2)
        .acquire_timeout(Duration::from_secs(10));
    let db = fixture.pool_with(options).await;
    let connection = db.acquire().await.expect("a connection");
    fixture.provider.fail_next(
        1_000,
        ProviderError::new(ProviderErrorKind::Denied, "the policy was revoked"),
    );
    let logins = fixture.accepted_logins();
    fixture.clock.jump(Duration::from_secs(4_000));

    // The only connection is busy: a new caller waits for it and does not log in.
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { query(&db).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(connection);
    waiting
        .await
        .expect("no panic")
        .expect("the open connection is shared");

    // Without an open connection the error names the expiry.
    fixture.terminate_connections().await;
    let mut result = query(&db).await;
    // The error of a closed connection is sqlx's own.
    while result
        .as_ref()
        .is_err_and(|error| SharedError::connect_error(error).is_none())
    {
        result = query(&db).await;
    }
    let error = result.expect_err("the lease has expired");
    assert!(
        matches!(error, sqlx::Error::Io(_)),
        "retry layers recognise it: {error:?}"
    );
    assert!(error.to_string().contains("expired at 2"), "{error}");
    assert_eq!(
        fixture.accepted_logins(),
        logins,
        "no login uses expired credentials"
    );
    assert!(!fixture.supervisor.readiness().ready);

    // A new lease ends the rejection.
    fixture.provider.recover();
    fixture.provider.rotate();
    fixture.set_password("password-2").await;
    drop(
        fixture
            .supervisor
            .rotate_now("login")
            .await
            .expect("a new lease"),
    );
    until_serving(&db).await;
    query(&db).await.expect("the query succeeds");
}
