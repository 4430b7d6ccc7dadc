//! `&Handle` in place of `&PgPool`: queries, streams, transactions, generic executors, shared
//! state; and the fixed handle.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use claviger::pool::HandoverPolicy;
use claviger::{Credentials, Handle, Supervisor, static_credentials};
use claviger_servers::Postgres;
use futures_util::TryStreamExt;

use super::fixtures::pools::{PgPools, SharedError};
use super::fixtures::sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use super::fixtures::sqlx::{Acquire, Executor, PgExecutor, Row};
use super::fixtures::{Fixture, eventually, sqlstate, sqlx, until_generation};

async fn count(executor: impl PgExecutor<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM orders")
        .fetch_one(executor)
        .await
}

async fn in_a_transaction<'a>(
    db: impl Acquire<'a, Database = sqlx::Postgres>,
) -> Result<i64, sqlx::Error> {
    let mut transaction = db.begin().await?;
    sqlx::query("INSERT INTO orders (note) VALUES ('one')")
        .execute(&mut *transaction)
        .await?;
    let seen = count(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(seen)
}

struct AppState {
    db: Handle<PgPools>,
}

async fn use_like_a_pool(db: &Handle<PgPools>) -> Result<(), sqlx::Error> {
    assert_eq!(count(db).await?, 0);
    assert_eq!(in_a_transaction(db).await?, 1);
    let mut transaction = db.begin().await?;
    transaction
        .execute("INSERT INTO orders (note) VALUES ('two')")
        .await?;
    transaction.rollback().await?;
    assert_eq!(count(db).await?, 1);

    let rows: Vec<i64> =
        sqlx::query_scalar::<_, i64>("SELECT g FROM generate_series(1::bigint, 1000) g")
            .fetch(db)
            .try_collect()
            .await?;
    assert_eq!(rows.len(), 1_000);
    let done = sqlx::raw_sql(
        "INSERT INTO orders (note) VALUES ('three'); INSERT INTO orders (note) VALUES ('four')",
    )
    .execute(db)
    .await?;
    assert_eq!(done.rows_affected(), 2);
    let row = db.fetch_one("SELECT 7 AS n").await?;
    assert_eq!(row.get::<i32, _>("n"), 7);
    assert!(
        sqlx::query("SELECT 1 WHERE false")
            .fetch_optional(db)
            .await?
            .is_none()
    );
    let statement = db.prepare(super::statement("SELECT $1::int")).await?;
    assert_eq!(sqlx::Statement::columns(&statement).len(), 1);
    assert_eq!(
        db.describe(super::statement("SELECT 1 AS n"))
            .await?
            .columns()
            .len(),
        1
    );
    let mut connection = db.acquire().await?;
    connection.execute("SELECT 1").await?;
    drop(connection);

    // In a spawned task, from shared state.
    let state = AppState { db: db.clone() };
    let counted = tokio::spawn(async move { count(&state.db).await })
        .await
        .expect("no panic")?;
    assert_eq!(counted, 3);

    let error = sqlx::query("SELECT nothing")
        .execute(db)
        .await
        .expect_err("no such column");
    assert_eq!(sqlstate(&error).as_deref(), Some("42703"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervised_handle_replaces_a_pool_reference() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(4).await;
    use_like_a_pool(&db).await.expect("as with &PgPool");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_handle_replaces_a_pool_reference() {
    let fixture = Fixture::new().await;
    let db = Handle::fixed(fixture.plain_pool("password-1", fixture.pool_options(4)));
    use_like_a_pool(&db).await.expect("as with &PgPool");
    assert_eq!((db.generation(), db.status().is_none()), (1, true));
    db.current().close().await;
    assert!(matches!(count(&db).await, Err(sqlx::Error::PoolClosed)));
    let wrong = Handle::fixed(fixture.plain_pool("wrong", fixture.pool_options(1)));
    let error = count(&wrong).await.expect_err("rejected");
    assert_eq!(sqlstate(&error).as_deref(), Some("28P01"));
}

/// sqlx's own future is large because a login is part of it. If a future contains it twice, each
/// query allocates and moves it twice, which cost a third of the throughput.
#[tokio::test]
async fn the_future_of_an_acquire_is_hardly_larger_than_a_plain_pool_s() {
    let pool = PgPoolOptions::new().connect_lazy_with(PgConnectOptions::new());
    let db = Handle::fixed(pool.clone());
    let (ours, theirs) = (size_of_val(&db.acquire()), size_of_val(&pool.acquire()));
    assert!(
        ours < theirs + 2_048,
        "{ours} bytes, and {theirs} with a plain pool"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_begins_with_a_statement_of_the_caller() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(1).await;
    let mut transaction = db
        .begin_with("BEGIN ISOLATION LEVEL SERIALIZABLE")
        .await
        .expect("the transaction begins");
    let isolation: String = sqlx::query_scalar("SHOW transaction_isolation")
        .fetch_one(&mut *transaction)
        .await
        .expect("the level");
    assert_eq!(isolation, "serializable");
    transaction
        .execute("INSERT INTO orders (note) VALUES ('one')")
        .await
        .expect("the row is inserted");
    drop(transaction);
    assert_eq!(count(&db).await.expect("a count"), 0, "it was rolled back");

    let error = db.begin_with("SELECT 1").await;
    let error = error.expect_err("the statement begins no transaction");
    assert!(matches!(error, sqlx::Error::BeginFailed), "{error}");
    assert_eq!(count(&db).await.expect("a count"), 0, "its place is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_outlives_a_rotation() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(4).await;
    let mut rows =
        sqlx::query_scalar::<_, i64>("SELECT g FROM generate_series(1::bigint, 50000) g")
            .fetch(&db);
    assert_eq!(rows.try_next().await.expect("a row"), Some(1));
    fixture.rotate_announced().await;
    until_generation(&db, 2).await;
    assert_eq!(
        db.status().expect("supervised").draining[0].connections,
        1,
        "the hazard: the stream's connection is of the old generation"
    );
    let mut last = 1;
    while let Some(row) = rows.try_next().await.expect("the stream continues") {
        last = row;
    }
    assert_eq!(last, 50_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_returns_the_next_generation() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(2).await;
    let changed = db.changed();
    fixture.rotate_announced().await;
    let number = tokio::time::timeout(Duration::from_secs(10), changed)
        .await
        .expect("within the timeout");
    assert_eq!(number, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_that_the_caller_reports_rotates_the_credentials() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(2).await;
    let next = fixture.provider.rotate();
    fixture.set_password(&next).await;
    // The caller read the generation, opens a connection of its own and is rejected.
    let generation = db.generation();
    let plain = fixture.plain_pool("password-1", fixture.pool_options(1));
    let error = plain.acquire().await.expect_err("rejected");
    let other = sqlx::Error::PoolTimedOut;
    assert!(!db.rejected(generation, &other), "no rejection");
    assert!(!db.rejected(generation + 1, &error), "another generation");
    assert!(db.rejected(generation, &error));
    until_generation(&db, 2).await;
    assert!(!db.rejected(generation, &error), "a stale generation");
    assert_eq!(fixture.provider.calls().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_starts_while_its_database_is_down() {
    let fixture = Fixture::new().await;
    fixture
        .on_the_server(|server| server.stop().expect("the server stops"))
        .await;
    let credentials = fixture
        .supervisor
        .add_provider_in_background("login", fixture.provider.clone())
        .expect("a good name");
    let db = fixture
        .supervisor
        .add_pool_in_background("orders", &credentials, fixture.pools(4))
        .expect("a good name");
    assert_eq!(
        (db.generation(), fixture.supervisor.readiness().ready),
        (0, false)
    );
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { count(&db).await }
    });
    eventually("a verification failed", || {
        db.status()
            .is_some_and(|status| status.last_error.is_some())
    })
    .await;
    assert!(db.current().is_closed());
    fixture
        .on_the_server(|server| server.start_again().expect("the server starts"))
        .await;
    assert_eq!(
        waiting
            .await
            .expect("no panic")
            .expect("the waiting query succeeds"),
        0
    );
    assert!(fixture.supervisor.readiness().ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_first_lease_callers_get_the_provider_s_error() {
    use claviger::error::{ProviderError, ProviderErrorKind};
    let fixture = Fixture::new().await;
    fixture.provider.fail_next(
        1_000,
        ProviderError::new(ProviderErrorKind::Denied, "grant read on the secret"),
    );
    let credentials = fixture
        .supervisor
        .add_provider_in_background("login", fixture.provider.clone())
        .expect("a good name");
    let db = fixture
        .supervisor
        .add_pool_in_background("orders", &credentials, fixture.pools(4))
        .expect("a good name");
    eventually("the fetch was denied", || {
        fixture.supervisor.status().providers[0]
            .last_error
            .is_some()
    })
    .await;
    let error = count(&db).await.expect_err("there is no credential");
    assert!(
        error.to_string().contains("grant read on the secret"),
        "{error}"
    );
    assert!(
        fixture
            .supervisor
            .shutdown(Duration::from_secs(5))
            .await
            .clean
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_endpoint_always_replaces_the_pool() {
    use claviger::{Endpoint, Lease, Revision};
    let fixture = Fixture::new().await;
    fixture
        .on_the_server(|server| {
            server
                .create_database("elsewhere", "app")
                .expect("the database is created")
        })
        .await;
    let db = fixture
        .pool_from(
            fixture
                .pools(2)
                .with_handover_policy(HandoverPolicy::AlwaysInPlace),
        )
        .await;
    let (first, port) = (db.current(), fixture.server.port());
    fixture.provider.return_next(Lease::new(
        Credentials::new("app", "password-1").with_endpoint(Endpoint::new(
            "127.0.0.1",
            port,
            "elsewhere",
        )),
        Revision::new("elsewhere"),
    ));
    fixture
        .supervisor
        .rotate_now("login")
        .await
        .expect("a report");
    let name: String = sqlx::query_scalar("SELECT current_database()")
        .fetch_one(&db)
        .await
        .expect("the query succeeds");
    assert_eq!((name.as_str(), first.is_closed()), ("elsewhere", true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_without_port_or_database_takes_them_from_the_pool() {
    use claviger::Endpoint;
    let fixture = Fixture::new().await;
    fixture
        .on_the_server(|server| {
            server
                .create_database("elsewhere", "app")
                .expect("the database is created")
        })
        .await;
    for (name, endpoint) in [
        ("orders", Endpoint::of_host("127.0.0.1")),
        (
            "elsewhere",
            Endpoint::of_host("127.0.0.1").with_database("elsewhere"),
        ),
        (
            "orders",
            Endpoint::server("127.0.0.1", fixture.server.port()),
        ),
    ] {
        let supervisor = Supervisor::start();
        let credentials = Credentials::new("app", "password-1").with_endpoint(endpoint);
        let credentials = supervisor
            .add_provider("login", static_credentials(credentials))
            .await
            .expect("a lease");
        let db = supervisor
            .add_pool("orders", &credentials, fixture.pools(2))
            .await
            .expect("verified");
        let database: String = sqlx::query_scalar("SELECT current_database()")
            .fetch_one(&db)
            .await
            .expect("a row");
        assert_eq!(database, name);
    }
}

/// Starts a server with TLS, a role `app` and a database `orders`.
async fn tls_server() -> Postgres {
    let start = || {
        let server = Postgres::builder()
            .tls()
            .start()
            .expect("the server starts");
        server.create_role("app", "password-1").expect("a role");
        server.create_database("orders", "app").expect("a database");
        server
    };
    tokio::task::spawn_blocking(start).await.expect("no panic")
}

fn verify_full(server: &Postgres, ca: &Path) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host(server.host())
        .port(server.port())
        .database("orders")
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert(ca)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_token_names_the_clock() {
    let server = tls_server().await;
    let options = verify_full(&server, server.ca_file().expect("a CA"));
    for (credentials, names_clock) in [
        (
            Credentials::new("app", "wrong").with_password_as_token(),
            true,
        ),
        (Credentials::new("app", "wrong"), false),
    ] {
        let supervisor = Supervisor::builder()
            .with_start_deadline(Duration::from_secs(2))
            .start()
            .expect("the settings are right");
        let provider = supervisor
            .add_provider("login", static_credentials(credentials))
            .await
            .expect("a lease");
        let pools = PgPools::new(options.clone(), PgPoolOptions::new());
        let error = supervisor
            .add_pool("orders", &provider, pools)
            .await
            .expect_err("the password is wrong")
            .to_string();
        assert!(error.contains("password authentication failed"), "{error}");
        assert_eq!(
            error.contains("check this machine's clock"),
            names_clock,
            "{error}"
        );
    }

    // A caller's own login names the clock as well.
    for (as_token, names_clock) in [(true, true), (false, false)] {
        server
            .set_password("app", "password-1")
            .expect("the setting is changed");
        let supervisor = Supervisor::start();
        let credentials = Credentials::new("app", "password-1");
        let provider = supervisor
            .add_provider(
                "login",
                static_credentials(if as_token {
                    credentials.with_password_as_token()
                } else {
                    credentials
                }),
            )
            .await
            .expect("a fixed provider");
        let pools = PgPools::new(
            options.clone(),
            PgPoolOptions::new()
                .acquire_timeout(Duration::from_secs(3))
                .max_connections(1),
        );
        let db = supervisor
            .add_pool("orders", &provider, pools)
            .await
            .expect("verified");
        server
            .set_password("app", "another")
            .expect("the setting is changed");
        let error = db
            .acquire()
            .await
            .map(drop)
            .expect_err("the password is another");
        let connect_error = SharedError::connect_error(&error)
            .expect("the database's error")
            .to_string();
        assert_eq!(
            connect_error.contains("check this machine's clock"),
            names_clock,
            "{connect_error}"
        );
    }
    drop(tokio::task::spawn_blocking(move || drop(server)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_full_rejects_an_unrelated_ca() {
    let server = tls_server().await;
    let supervisor = Supervisor::start();
    let credentials = supervisor
        .add_provider(
            "login",
            static_credentials(Credentials::new("app", "password-1").with_password_as_token()),
        )
        .await
        .expect("a fixed provider");
    let good = PgPools::new(
        verify_full(&server, server.ca_file().expect("a CA")),
        PgPoolOptions::new(),
    );
    let db = supervisor
        .add_pool("good", &credentials, good)
        .await
        .expect("the certificate is valid");
    let encrypted: bool =
        sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            .fetch_one(&db)
            .await
            .expect("the query succeeds");
    assert!(encrypted);
    let bad = PgPools::new(
        verify_full(&server, server.unrelated_ca_file().expect("another CA")),
        PgPoolOptions::new(),
    );
    let error = supervisor
        .add_pool("bad", &credentials, bad)
        .await
        .expect_err("the CA is unrelated");
    assert_eq!(
        error
            .connect_error()
            .map(claviger::error::ConnectError::kind),
        Some(claviger::error::ConnectErrorKind::Misconfigured),
        "{error}"
    );
    drop(tokio::task::spawn_blocking(move || drop(server)).await);
}
