//! needs: postgresql
//!
//! Past its lease's death a generation behaves as rejected: live connections are shared, nobody
//! logs in, and the error names the expiry.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::{OldConnections, ProviderError, ProviderErrorKind, SharedError};
use claviger_fixtures::{Fixture, query, until_serving};
use claviger_testkit::ScriptedProvider;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_logs_in_with_a_dead_credential() {
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
        ProviderError::new(ProviderErrorKind::Denied, "the policy was taken away"),
    );
    let logins = fixture.accepted_logins();
    fixture.clock.jump(Duration::from_secs(4_000));

    // The one connection is busy: whoever comes waits for it, and does not log in.
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { query(&db).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(connection);
    waiting
        .await
        .expect("no panic")
        .expect("the live connection is shared");

    // Without a live connection the error says what happened.
    fixture.terminate_connections().await;
    let mut answer = query(&db).await;
    // The error of a closed connection is sqlx's own.
    while answer
        .as_ref()
        .is_err_and(|error| SharedError::connect_error(error).is_none())
    {
        answer = query(&db).await;
    }
    let error = answer.expect_err("nobody logs in");
    assert!(
        matches!(error, sqlx::Error::Io(_)),
        "what retry layers recognise: {error:?}"
    );
    assert!(error.to_string().contains("expired at 2"), "{error}");
    assert_eq!(
        fixture.accepted_logins(),
        logins,
        "no login with a dead credential"
    );
    assert!(!fixture.supervisor.readiness().ready);

    // A renewal brings it back to life.
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
    query(&db).await.expect("it serves");
}
