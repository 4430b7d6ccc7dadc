//! needs: postgresql, moto
//!
//! An endpoint in a secret: its fields have priority over the pool's options, which supply the
//! rest.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use claviger::{PgPools, Supervisor};
use claviger_fixtures::FixtureOn;
use claviger_secrets_fixtures::{Secret, aws, start_moto};
use claviger_secrets_manager::SecretsManager;
use claviger_servers::Postgres;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_without_dbname_leaves_the_database_to_the_pool() {
    let (database, moto) = tokio::join!(FixtureOn::<Postgres>::new(), start_moto());
    let text = serde_json::json!({
        "engine": "postgres", "host": database.server.host(), "port": database.server.port(),
        "username": "app", "password": "password-1",
    });
    Secret::create(&moto, "orders", &text.to_string()).await;
    let supervisor = Supervisor::start();
    let provider = SecretsManager::builder(&aws(&moto.endpoint()), "orders")
        .with_endpoint_from_secret()
        .build()
        .expect("the settings are valid");
    let credentials = supervisor
        .add_provider("login", provider)
        .await
        .expect("a lease");
    let elsewhere = PgConnectOptions::new_without_pgpass()
        .host("nowhere.invalid")
        .port(1);

    let pools = PgPools::new(
        elsewhere.clone().database("orders"),
        PgPoolOptions::new().max_connections(2),
    );
    let db = supervisor
        .add_pool("orders", &credentials, pools)
        .await
        .expect("it is verified");
    let name: String = sqlx::query_scalar("SELECT current_database()")
        .fetch_one(&db)
        .await
        .expect("the query succeeds");
    assert_eq!(name, "orders", "not the engine's default, postgres");

    let pools = PgPools::new(elsewhere, PgPoolOptions::new().max_connections(2));
    let error = supervisor
        .add_pool("nameless", &credentials, pools)
        .await
        .map(drop)
        .expect_err("no database is named");
    assert!(error.to_string().contains("database"), "{error}");
    supervisor.shutdown(std::time::Duration::from_secs(5)).await;
}
