//! Law 6: an error other than a rejection never causes a fetch; a failed statement causes a probe
//! at most.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use super::fixtures::sqlx::Executor;
use super::fixtures::sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use super::fixtures::{
    eventually, eventually_within, fetches, query, short_lived, sqlstate, sqlx, until_serving,
};
use super::{Fixture, Pools};
use claviger::error::{ConnectErrorKind, ErrorKind};
use claviger::lease::OldConnections;
use claviger::report::RotationTrigger;
use claviger::{Credentials, Supervisor, static_credentials};
use claviger_servers::Postgres;
use claviger_testkit::ScriptedProvider;

#[tokio::test(flavor = "multi_thread")]
async fn law_06_a_full_a_stopped_and_a_frozen_database_cause_no_fetch() {
    let fixture = Fixture::new().await;
    let options = short_lived(
        fixture
            .pool_options(4)
            .acquire_timeout(Duration::from_millis(700)),
        Duration::from_millis(1),
    );
    let db = fixture.pool_with(options).await;
    let mut failures = 0;

    // 53300: the role's connection limit. sqlx retries until its timeout.
    fixture.sql("ALTER ROLE app CONNECTION LIMIT 0").await;
    failures += usize::from(query(&db).await.is_err());
    assert!(
        fixture
            .server
            .log()
            .count("too many connections for role")
            .expect("the log")
            >= 1
    );
    fixture.sql("ALTER ROLE app CONNECTION LIMIT -1").await;

    // 3D000: no such database.
    fixture
        .on_the_server(|server| {
            server
                .sql_in("postgres", "ALTER DATABASE orders RENAME TO elsewhere")
                .expect("the database is renamed")
        })
        .await;
    let mut error = query(&db).await.expect_err("the database is gone");
    for _ in 0..20 {
        // The timeout is short: the server may not have responded by then.
        if matches!(error, sqlx::Error::PoolTimedOut) {
            error = query(&db).await.expect_err("the database is gone");
        }
    }
    assert_eq!(sqlstate(&error).as_deref(), Some("3D000"));
    failures += 1;
    fixture
        .on_the_server(|server| {
            server
                .sql_in("postgres", "ALTER DATABASE elsewhere RENAME TO orders")
                .expect("the database is renamed")
        })
        .await;

    // Frozen: TCP connects, but the server does not respond.
    fixture
        .on_the_server(|server| server.stall().expect("the server stalls"))
        .await;
    failures += usize::from(query(&db).await.is_err());
    fixture
        .on_the_server(|server| server.resume().expect("the server resumes"))
        .await;

    // Stopped: the port is closed; then 57P03 while the server starts.
    fixture
        .on_the_server(|server| server.stop().expect("the server stops"))
        .await;
    failures += usize::from(query(&db).await.is_err());
    fixture
        .on_the_server(|server| server.start_again().expect("the server starts"))
        .await;
    until_serving(&db).await;
    let mut served = query(&db).await;
    for _ in 0..20 {
        if served.is_err() {
            served = query(&db).await;
        }
    }
    served.expect("the query succeeds without a restart");
    assert_eq!(failures, 4, "each hazard occurred");
    assert_eq!(fixture.provider.calls().len(), 1, "only the start fetches");
    assert_eq!(db.generation(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_06_a_frozen_server_delays_a_caller_by_its_timeout_at_most() {
    let fixture = Fixture::new().await;
    let options = fixture
        .pool_options(4)
        .acquire_timeout(Duration::from_millis(700));
    let db = fixture.pool_with(options).await;
    query(&db).await.expect("the query succeeds");
    eventually("a connection is idle", || db.current().num_idle() == 1).await;
    fixture
        .on_the_server(|server| server.stall().expect("the server stalls"))
        .await;
    let began = tokio::time::Instant::now();
    let result = db.acquire().await;
    assert!(
        matches!(result, Err(sqlx::Error::PoolTimedOut)),
        "{result:?}"
    );
    // Without a bound the call would last as long as the server is frozen.
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "the caller waited {:?}",
        began.elapsed()
    );
    fixture
        .on_the_server(|server| server.resume().expect("the server resumes"))
        .await;
    query(&db).await.expect("the query succeeds again");
    assert_eq!(fixture.provider.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_06_a_missing_privilege_causes_a_probe_and_only_its_rejection_a_fetch() {
    let provider = ScriptedProvider::new()
        .with_old_connections(OldConnections::EndWithLease)
        .with_lifetime(Duration::from_secs(3_600));
    let fixture = Fixture::with(provider).await;
    let db = fixture.pool(4).await;
    fixture.sql("CREATE TABLE secret (n int)").await;
    for _ in 0..20 {
        let error = sqlx::query("SELECT * FROM secret")
            .execute(&db)
            .await
            .expect_err("permission denied");
        assert_eq!(sqlstate(&error).as_deref(), Some("42501"));
    }
    query(&db).await.expect("the query succeeds");
    assert_eq!(
        fixture.provider.calls().len(),
        1,
        "the role exists: no fetch"
    );

    // The backend drops the role. Its open connections still respond to pings, but are useless.
    let (idle, next) = (
        db.acquire().await.expect("a connection"),
        fixture.provider.rotate(),
    );
    fixture.sql("REVOKE ALL ON DATABASE orders FROM app; REASSIGN OWNED BY app TO CURRENT_USER; DROP OWNED BY app; DROP ROLE app").await;
    drop(idle);
    let role = format!("CREATE ROLE app LOGIN PASSWORD '{next}'");
    fixture.sql(&role).await;
    // Probes are limited to one per ten seconds, and one may just have run.
    eventually_within(
        Duration::from_secs(20),
        "a rejected probe caused a fetch",
        || {
            db.generation() == 2 || {
                let db = db.clone();
                tokio::spawn(async move {
                    drop(sqlx::query("SELECT * FROM secret").execute(&db).await)
                });
                false
            }
        },
    )
    .await;
    assert_eq!(fetches(&fixture.provider, RotationTrigger::Rejected), 1);
}

/// After `SET ROLE` the probe still checks the user that logged in.
#[tokio::test(flavor = "multi_thread")]
async fn law_06_the_probe_finds_a_dropped_role_after_set_role() {
    let provider = ScriptedProvider::new()
        .with_old_connections(OldConnections::EndWithLease)
        .with_lifetime(Duration::from_secs(3_600));
    let fixture = Fixture::with(provider).await;
    fixture
        .sql("CREATE ROLE admin; GRANT admin TO app; CREATE TABLE secret (n int)")
        .await;
    let options = fixture.pool_options(2).after_connect(|connection, _| {
        Box::pin(async { connection.execute("SET ROLE admin").await.map(drop) })
    });
    let db = fixture.pool_with(options).await;
    query(&db).await.expect("the query succeeds");
    let (idle, next) = (
        db.acquire().await.expect("a connection"),
        fixture.provider.rotate(),
    );
    // In one transaction: a login in between would be rejected, and cause another fetch.
    fixture
        .sql(&format!(
            "REVOKE ALL ON DATABASE orders FROM app; REASSIGN OWNED BY app TO CURRENT_USER; \
             DROP OWNED BY app; DROP ROLE app; \
             CREATE ROLE app LOGIN PASSWORD '{next}'; GRANT admin TO app"
        ))
        .await;
    drop(idle);
    let current_user: String = sqlx::query_scalar("SELECT current_user::text")
        .fetch_one(&db)
        .await
        .expect("the query succeeds");
    assert_eq!(
        current_user, "admin",
        "the hazard: the role that was dropped is not the current one"
    );
    let error = sqlx::query("SELECT * FROM secret")
        .execute(&db)
        .await
        .expect_err("permission denied");
    assert_eq!(sqlstate(&error).as_deref(), Some("42501"));
    eventually_within(
        Duration::from_secs(20),
        "the rejected probe caused a fetch",
        || db.generation() == 2,
    )
    .await;
    assert_eq!(fetches(&fixture.provider, RotationTrigger::Rejected), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn law_06_registration_returns_permanent_errors() {
    let fixture = Fixture::new().await;
    let credentials = fixture.add_provider().await;
    let elsewhere = Pools::new(
        fixture.connect_options().database("nowhere"),
        fixture.pool_options(2),
    );
    let error = fixture
        .supervisor
        .add_pool("a", &credentials, elsewhere)
        .await
        .expect_err("there is no such database");
    let connect_error = error.connect_error().expect("the database's error");
    assert_eq!(
        (error.kind(), connect_error.kind(), connect_error.code()),
        (
            ErrorKind::Pool,
            ConnectErrorKind::Misconfigured,
            Some("3D000")
        )
    );

    fixture.sql("REVOKE CONNECT ON DATABASE orders FROM PUBLIC; REVOKE ALL ON DATABASE orders FROM app; ALTER DATABASE orders OWNER TO CURRENT_USER").await;
    let error = fixture
        .supervisor
        .add_pool("b", &credentials, fixture.pools(2))
        .await
        .expect_err("no CONNECT privilege");
    let connect_error = error.connect_error().expect("the database's error");
    assert_eq!(
        (connect_error.kind(), connect_error.code()),
        (ConnectErrorKind::Misconfigured, Some("42501"))
    );
    assert!(
        fixture.supervisor.status().pools.is_empty(),
        "nothing stays registered"
    );
    assert_eq!(fixture.provider.calls().len(), 1);
}

/// Errors of the operating system name neither the file nor the server; those of the library do.
#[tokio::test(flavor = "multi_thread")]
async fn law_06_registration_names_a_missing_file_and_the_address_of_a_server_that_is_down() {
    let server =
        tokio::task::spawn_blocking(|| Postgres::builder().tls().start().expect("a server starts"))
            .await
            .expect("no panic");
    server
        .create_role("app", "password-1")
        .expect("the role is created");
    server
        .create_database("orders", "app")
        .expect("the database is created");
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(server.port())
        .database("orders");
    let verified = options
        .clone()
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert("/nowhere/ca.pem");
    let supervisor = Supervisor::builder()
        .with_start_deadline(Duration::from_secs(3))
        .start()
        .expect("a valid duration");
    let credentials = supervisor
        .add_provider(
            "login",
            static_credentials(Credentials::new("app", "password-1")),
        )
        .await
        .expect("a lease");
    let error = supervisor
        .add_pool(
            "no file",
            &credentials,
            Pools::new(verified, PgPoolOptions::new()),
        )
        .await
        .expect_err("there is no file");
    let connect_error = error.connect_error().expect("a connect error");
    assert_eq!(
        connect_error.kind(),
        ConnectErrorKind::Misconfigured,
        "{error}"
    );
    assert!(
        connect_error.message().starts_with("ssl_root_cert, "),
        "{error}"
    );

    server.stop().expect("the server stops");
    let error = supervisor
        .add_pool(
            "down",
            &credentials,
            Pools::new(options, PgPoolOptions::new()),
        )
        .await
        .expect_err("the server is down");
    assert_eq!(
        error
            .connect_error()
            .map(claviger::error::ConnectError::kind),
        Some(ConnectErrorKind::Unreachable),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains(&format!("127.0.0.1:{}", server.port())),
        "{error}"
    );
}
