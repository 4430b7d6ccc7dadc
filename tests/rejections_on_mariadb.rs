//! needs: mariadb, pam
//!
//! Login errors of MariaDB and what follows from them: each kind of rejection, a full server, and
//! tokens, which require verified TLS.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use claviger::error::{ConnectErrorKind, ErrorKind};
use claviger::lease::OldConnections;
use claviger::pool::PoolFactory;
use claviger::report::RotationTrigger;
use claviger::{Credentials, MySqlPools, static_credentials};
use claviger_fixtures::{
    Callers, FixtureOn, backend_down, eventually, fetches, query, short_lived, until_drained,
    until_generation, until_serving,
};
use claviger_servers::MariaDb;
use claviger_testkit::{Lab, ScriptedProvider};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode};

type Fixture = FixtureOn<MariaDb>;

/// Returns the outcome of verifying these credentials.
async fn verification(
    fixture: &Fixture,
    credentials: Credentials,
) -> Result<(), (ConnectErrorKind, Option<String>)> {
    let verified = fixture.pools(1).verify(&credentials).await;
    verified.map_err(|error| (error.kind(), error.code().map(str::to_owned)))
}

fn rejected(code: &str) -> Result<(), (ConnectErrorKind, Option<String>)> {
    Err((ConnectErrorKind::Rejected, Some(code.to_owned())))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_authentication_error_is_classified_as_a_rejection() {
    let fixture = Fixture::new().await;
    let app = || Credentials::new("app", "password-1");
    assert_eq!(verification(&fixture, app()).await, Ok(()));
    // 1045: a wrong password, an unknown user.
    assert_eq!(
        verification(&fixture, Credentials::new("app", "wrong")).await,
        rejected("28000")
    );
    assert_eq!(
        verification(&fixture, Credentials::new("unknown", "password-1")).await,
        rejected("28000")
    );
    // 1698: no password authentication.
    fixture
        .sql("CREATE USER socket@'%' IDENTIFIED VIA unix_socket")
        .await;
    assert_eq!(
        verification(&fixture, Credentials::new("socket", "password-1")).await,
        rejected("28000")
    );
    // 4151: locked.
    fixture
        .on_the_server(|server| server.lock_account("app").expect("the account is locked"))
        .await;
    assert_eq!(verification(&fixture, app()).await, rejected("HY000"));
    fixture
        .on_the_server(|server| {
            server
                .unlock_account("app")
                .expect("the account is unlocked")
        })
        .await;
    // 1820: the login succeeds, but every statement fails.
    fixture
        .on_the_server(|server| server.expire_password("app").expect("the password expires"))
        .await;
    assert_eq!(verification(&fixture, app()).await, rejected("HY000"));
}

/// Returns how many logins failed, for any reason.
async fn failed_logins(fixture: &Fixture) -> u64 {
    let status = fixture.sql("SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'ABORTED_CONNECTS'").await;
    status.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn other_errors_cause_no_fetch() {
    let fixture = Fixture::new().await;
    let credentials = fixture.add_provider().await;
    let options = fixture.connect_options();
    fixture.sql("GRANT ALL ON nowhere.* TO app@'%'").await;
    for (database, code) in [("nowhere", "42000"), ("mysql", "42000")] {
        // 1049: no such database; 1044: no privilege on it.
        let pools = MySqlPools::new(options.clone().database(database), fixture.pool_options(2));
        let error = fixture
            .supervisor
            .add_pool(database, &credentials, pools)
            .await
            .expect_err("the lease is unusable");
        let connect_error = error.connect_error().expect("the database's error");
        assert_eq!(
            (connect_error.kind(), connect_error.code()),
            (ConnectErrorKind::Misconfigured, Some(code)),
            "{connect_error}"
        );
    }
    // 1226: the user's connection limit. The caller waits for a free connection.
    let db = fixture
        .add_pool("orders", &credentials, fixture.pools(4))
        .await;
    // Connections opened before the limit do not count.
    fixture
        .sql("GRANT USAGE ON *.* TO app@'%' WITH MAX_USER_CONNECTIONS 1")
        .await;
    let other = fixture.plain_pool("password-1", fixture.pool_options(1));
    let busy = other.acquire().await.expect("the only connection");
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { query(&db).await }
    });
    let before = failed_logins(&fixture).await;
    while failed_logins(&fixture).await < before + 2 {
        assert!(!waiting.is_finished(), "no connection is free");
    }
    assert!(!waiting.is_finished(), "no connection is free");
    busy.close().await.expect("the connection closes");
    waiting
        .await
        .expect("no panic")
        .expect("a connection is free");
    assert_eq!(fixture.provider.calls().len(), 1, "only the start fetches");
    assert_eq!(db.generation(), 1);
}

/// Logins and open connections continue to work, but each statement is rejected.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_password_is_replaced_before_a_caller_notices() {
    let fixture = Fixture::new().await;
    let options = short_lived(fixture.pool_options(4), Duration::from_millis(50));
    let db = fixture.pool_with(options).await;
    let callers = Callers::start(&db, 8);
    callers.wait_for_more(200).await;
    fixture.provider.rotate();
    fixture
        .on_the_server(|server| server.expire_password("app").expect("the password expires"))
        .await;
    eventually("a login was rejected", || {
        fixture.provider.calls().len() >= 2
    })
    .await;
    fixture.set_password("password-2").await;
    until_generation(&db, 2).await;
    callers.wait_for_more(200).await;
    assert_eq!(callers.stop().await.failed, Vec::<String>::new());
    let fetches = fetches(&fixture.provider, RotationTrigger::Rejected);
    assert!(
        (1..=3).contains(&fetches),
        "{fetches} fetches; the next password may have been rejected before it was set"
    );
}

/// After `DROP USER` no probe finds the user's connections, so they close with their generation.
#[tokio::test(flavor = "multi_thread")]
async fn connections_of_a_dropped_user_close_with_their_generation() {
    let provider = ScriptedProvider::new()
        .with_old_connections(OldConnections::EndWithLease)
        .with_lifetime(Duration::from_secs(3_600));
    let fixture = Fixture::with(provider).await;
    let db = fixture.pool(4).await;
    let mut old = db.acquire().await.expect("a connection");
    let next = fixture.provider.rotate();
    fixture.sql("DROP USER app@'%'").await;
    let user: String = sqlx::query_scalar("SELECT CURRENT_USER()")
        .fetch_one(&mut *old)
        .await
        .expect("the query succeeds");
    assert_eq!(user, "app@%", "the hazard: a probe would succeed");
    drop(old);
    fixture
        .on_the_server(move |server| {
            server
                .create_role("app", &next)
                .expect("the role is created")
        })
        .await;
    fixture.sql("GRANT ALL ON orders.* TO app@'%'").await;
    fixture
        .supervisor
        .rotate_now("login")
        .await
        .expect("a report");
    until_drained(&db).await;
    let since: u64 = sqlx::query_scalar("SELECT CONNECTION_ID()")
        .fetch_one(&db)
        .await
        .expect("the query succeeds");
    assert_eq!((db.generation(), since > 0), (2, true));
}

/// No probe finds the connections of a dropped user. They are not handed out after the lease
/// expired, even if no next lease is available.
#[tokio::test(flavor = "multi_thread")]
async fn no_connection_is_handed_out_after_its_lease_expired() {
    let provider = ScriptedProvider::new()
        .with_old_connections(OldConnections::EndWithLease)
        .with_lifetime(Duration::from_secs(3_600));
    let fixture = Fixture::with(provider).await;
    let options = fixture
        .pool_options(2)
        .acquire_timeout(Duration::from_millis(500));
    let db = fixture.pool_with(options).await;
    let (idle, busy) = (
        db.acquire().await.expect("a connection"),
        db.acquire().await.expect("a connection"),
    );
    drop(idle);
    fixture.provider.fail_next(1_000, backend_down());
    fixture.sql("DROP USER app@'%'").await;
    fixture.clock.jump(Duration::from_secs(4_000));

    let error = query(&db).await.expect_err("the lease has expired");
    assert!(error.to_string().contains("expired at 2"), "{error}");
    assert!(db.try_acquire().is_none());
    drop(busy);
    assert!(
        db.try_acquire().is_none(),
        "no returned connection is handed out"
    );
    assert!(db.acquire().await.is_err());
    let old = db.current().try_acquire();
    assert!(
        old.is_some(),
        "the hazard: an idle connection of the expired lease"
    );
    drop(old);

    let password = fixture.provider.rotate();
    fixture
        .on_the_server(move |server| {
            server
                .create_role("app", &password)
                .expect("the role is created")
        })
        .await;
    fixture.sql("GRANT ALL ON orders.* TO app@'%'").await;
    fixture.provider.recover();
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

/// Starts a server that checks tokens over TLS.
async fn token_server() -> Arc<MariaDb> {
    tokio::task::spawn_blocking(|| {
        let server = MariaDb::builder()
            .tokens()
            .start()
            .expect("a server starts");
        server
            .create_token_role("app")
            .expect("the role is created");
        server
            .create_database("orders", "app")
            .expect("the database is created");
        Arc::new(server)
    })
    .await
    .expect("the server's thread ends")
}

fn pools(server: &MariaDb, mode: MySqlSslMode) -> MySqlPools {
    let options = MySqlConnectOptions::new()
        .host(server.host())
        .port(server.port())
        .database("orders")
        .ssl_mode(mode);
    let options = options
        .ssl_ca(server.ca_file().expect("a CA"))
        .enable_cleartext_plugin(true);
    MySqlPools::new(options, MySqlPoolOptions::new().max_connections(2))
}

/// Returns a token with no valid signature.
fn token() -> Credentials {
    Credentials::new("app", "host:3306/?Action=connect&DBUser=app").with_password_as_token()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_sent_over_verified_tls_only() {
    let server = token_server().await;
    let lab = Lab::new();
    let credentials = lab.add_provider("login", static_credentials(token())).await;
    for mode in [
        MySqlSslMode::Disabled,
        MySqlSslMode::Preferred,
        MySqlSslMode::Required,
    ] {
        let error = lab
            .supervisor
            .add_pool("orders", &credentials, pools(&server, mode))
            .await
            .expect_err("the TLS mode is too weak");
        assert_eq!(error.kind(), ErrorKind::Pool);
        assert!(error.to_string().contains("VerifyIdentity"), "{error}");
    }
    assert_eq!(
        server
            .token_checks()
            .entries()
            .expect("the token checks")
            .len(),
        0,
        "nothing was sent"
    );
    // Over verified TLS the token is sent, and the server checks it.
    let verified = pools(&server, MySqlSslMode::VerifyIdentity)
        .verify(&token())
        .await;
    assert_eq!(
        verified.map_err(|connect_error| connect_error.kind()),
        Err(ConnectErrorKind::Rejected)
    );
    assert_eq!(
        server.token_checks().rejected().expect("the token checks"),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_never_sent_in_clear_text_at_the_server_s_request() {
    let server = token_server().await;
    // The server requests the clear-text plugin, and the options enable it.
    for mode in [MySqlSslMode::Preferred, MySqlSslMode::Required] {
        let verified = pools(&server, mode)
            .verify(&Credentials::new("app", "a password"))
            .await;
        let error = verified.expect_err("the password is not sent");
        assert_eq!(error.kind(), ConnectErrorKind::Misconfigured, "{error}");
    }
    assert_eq!(
        server
            .token_checks()
            .entries()
            .expect("the token checks")
            .len(),
        0,
        "nothing was sent"
    );
}
