//! needs: postgresql
//!
//! A failover leaves open connections to a read-only server: without the recipe of
//! `docs/recipes.md`, then with it.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use claviger::{Handle, PgPools};
use claviger_fixtures::Fixture;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, Row};

/// Applies the recipe.
fn with_recipe(options: PgPoolOptions) -> PgPoolOptions {
    options.before_acquire(|connection, _| {
        Box::pin(async move {
            let row = connection.fetch_one("SHOW transaction_read_only").await?;
            Ok(row.try_get::<&str, _>(0)? == "off")
        })
    })
}

/// Returns a pool of one connection to a read-only server, a former primary. New connections are
/// writable.
async fn after_a_failover(
    options: impl FnOnce(PgPoolOptions) -> PgPoolOptions,
) -> (Fixture, Handle<PgPools>) {
    let fixture = Fixture::new().await;
    let pools = fixture.pools_with(options(fixture.pool_options(1)));
    let db = fixture.pool_from(pools).await;
    insert(&db).await.expect("the primary accepts the insert");
    read_only(&fixture, true).await;
    assert_eq!(
        insert(&db).await.err().as_deref(),
        Some("25006"),
        "the hazard: an open connection is read-only"
    );
    // The name now resolves to a writable server; the open connection stays read-only.
    sqlx::query("SET default_transaction_read_only = on")
        .execute(&db)
        .await
        .expect("the setting is changed");
    read_only(&fixture, false).await;
    (fixture, db)
}

async fn read_only(fixture: &Fixture, on: bool) {
    fixture
        .sql(&format!(
            "ALTER SYSTEM SET default_transaction_read_only = {on}"
        ))
        .await;
    fixture.sql("SELECT pg_reload_conf()").await;
    // A connection reloads the settings a little later, when it is idle.
    let state = if on { "on" } else { "off" };
    while fixture.sql("SHOW default_transaction_read_only").await != state {
        tokio::task::yield_now().await;
    }
}

async fn insert(db: &Handle<PgPools>) -> Result<(), String> {
    let inserted = sqlx::query("INSERT INTO orders (note) VALUES ('x')")
        .execute(db)
        .await;
    inserted.map(drop).map_err(|error| {
        error
            .as_database_error()
            .and_then(|error| error.code())
            .map_or_else(|| error.to_string(), String::from)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_hook_every_call_fails() {
    let (fixture, db) = after_a_failover(|options| options).await;
    for _ in 0..5 {
        assert_eq!(insert(&db).await, Err("25006".to_owned()));
    }
    assert_eq!(
        fixture.provider.calls().len(),
        1,
        "a server that is read-only rejects no credential"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_hook_the_next_call_gets_a_writable_connection() {
    let (fixture, db) = after_a_failover(with_recipe).await;
    for _ in 0..5 {
        insert(&db).await.expect("a connection that may write");
    }
    assert_eq!(
        fixture.provider.calls().len(),
        1,
        "the error causes no fetch"
    );
    assert_eq!(db.generation(), 1);
}
