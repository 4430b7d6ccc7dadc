//! The kinds of pools on PostgreSQL.

use bb8_postgres::PostgresConnectionManager;
use claviger::Handle;
use claviger::sqlx_09::{PgPools, sqlx};
use claviger_bb8::{Bb8Pools, PgConnect, bb8};
use claviger_deadpool_postgres::deadpool_postgres::{self, ManagerConfig, PoolConfig, Runtime};
use claviger_deadpool_postgres::tokio_postgres::config::SslMode;
use claviger_deadpool_postgres::tokio_postgres::{Config, NoTls};
use claviger_deadpool_postgres::{DeadpoolPools, deadpool_postgres::RecyclingMethod};
use claviger_diesel_async::diesel_async::pooled_connection::AsyncDieselConnectionManager;
use claviger_diesel_async::diesel_async::{AsyncPgConnection, RunQueryDsl};
use claviger_diesel_async::{DieselPools, deadpool::managed, diesel};
use claviger_servers::Postgres;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::kind::{ACQUIRE_TIMEOUT, CONNECTIONS, Database, Kind, USER};

const QUERY: &str = "SELECT 1";
const DATABASE: &str = "orders";

impl Database for Postgres {
    fn start(password: &str) -> Self {
        let server = Self::start().expect("a server");
        server.create_role(USER, password).expect("a role");
        server.create_database(DATABASE, USER).expect("a database");
        server
    }

    fn change_password(&self, password: &str) {
        self.set_password(USER, password).expect("changed");
    }

    fn terminate_connections(&self) {
        Self::terminate_connections(self, USER).expect("terminated");
    }

    fn rejected_logins(&self) -> u64 {
        self.log().rejected_logins_of(USER).expect("a log") as u64
    }
}

fn config(server: &Postgres) -> Config {
    let mut config = Config::new();
    config
        .host(server.host())
        .port(server.port())
        .dbname(DATABASE)
        .ssl_mode(SslMode::Disable);
    config
}

fn plain_config(server: &Postgres, password: &str) -> Config {
    let mut config = config(server);
    config.user(USER).password(password);
    config
}

/// Returns the text of an error.
fn text(error: impl std::error::Error) -> String {
    error.to_string()
}

/// Pools of sqlx.
pub(crate) struct Sqlx;

impl Sqlx {
    fn connect_options(server: &Postgres) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host(server.host())
            .port(server.port())
            .database(DATABASE)
    }

    fn pool_options() -> PgPoolOptions {
        PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
    }
}

impl Kind for Sqlx {
    const NAME: &'static str = "sqlx";
    type Server = Postgres;
    type Pools = PgPools;
    type Plain = PgPool;

    fn pools(server: &Postgres) -> PgPools {
        PgPools::new(Self::connect_options(server), Self::pool_options())
    }

    async fn plain(server: &Postgres, password: &str) -> PgPool {
        let options = Self::connect_options(server)
            .username(USER)
            .password(password);
        Self::pool_options().connect_lazy_with(options)
    }

    async fn call(pool: &Handle<PgPools>) -> Result<(), String> {
        sqlx::query(QUERY)
            .execute(pool)
            .await
            .map(drop)
            .map_err(text)
    }

    async fn call_plain(pool: &PgPool) -> Result<(), String> {
        sqlx::query(QUERY)
            .execute(pool)
            .await
            .map(drop)
            .map_err(text)
    }
}

/// Pools of deadpool-postgres.
pub(crate) struct Deadpool;

impl Kind for Deadpool {
    const NAME: &'static str = "deadpool";
    type Server = Postgres;
    type Pools = DeadpoolPools;
    type Plain = deadpool_postgres::Pool;

    fn pools(server: &Postgres) -> DeadpoolPools {
        let mut pool = PoolConfig::new(CONNECTIONS as usize);
        pool.timeouts.wait = Some(ACQUIRE_TIMEOUT);
        DeadpoolPools::new(PgConnect::new(config(server)), pool)
    }

    async fn plain(server: &Postgres, password: &str) -> Self::Plain {
        let manager = deadpool_postgres::Manager::from_config(
            plain_config(server, password),
            NoTls,
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let pool = deadpool_postgres::Pool::builder(manager)
            .max_size(CONNECTIONS as usize)
            .wait_timeout(Some(ACQUIRE_TIMEOUT))
            .runtime(Runtime::Tokio1);
        pool.build().expect("a pool")
    }

    async fn call(pool: &Handle<DeadpoolPools>) -> Result<(), String> {
        let connection = pool.get().await.map_err(text)?;
        let done = connection.batch_execute(QUERY).await;
        done.map_err(text)
    }

    async fn call_plain(pool: &Self::Plain) -> Result<(), String> {
        let connection = pool.get().await.map_err(text)?;
        let done = connection.batch_execute(QUERY).await;
        done.map_err(text)
    }
}

/// Pools of diesel-async.
pub(crate) struct Diesel;

impl Kind for Diesel {
    const NAME: &'static str = "diesel";
    type Server = Postgres;
    type Pools = DieselPools;
    type Plain = managed::Pool<AsyncDieselConnectionManager<AsyncPgConnection>>;

    fn pools(server: &Postgres) -> DieselPools {
        let mut pool = managed::PoolConfig::new(CONNECTIONS as usize);
        pool.timeouts.wait = Some(ACQUIRE_TIMEOUT);
        DieselPools::new(PgConnect::new(config(server)), pool)
    }

    async fn plain(server: &Postgres, password: &str) -> Self::Plain {
        let (host, port) = (server.host(), server.port());
        let url = format!("postgres://{USER}:{password}@{host}:{port}/{DATABASE}");
        let pool = managed::Pool::builder(AsyncDieselConnectionManager::new(url))
            .max_size(CONNECTIONS as usize)
            .wait_timeout(Some(ACQUIRE_TIMEOUT))
            .runtime(claviger_diesel_async::deadpool::Runtime::Tokio1);
        pool.build().expect("a pool")
    }

    async fn call(pool: &Handle<DieselPools>) -> Result<(), String> {
        let mut connection = pool.get().await.map_err(text)?;
        let done = diesel::sql_query(QUERY).execute(&mut connection).await;
        done.map(drop).map_err(text)
    }

    async fn call_plain(pool: &Self::Plain) -> Result<(), String> {
        let mut connection = pool.get().await.map_err(text)?;
        let done = diesel::sql_query(QUERY).execute(&mut connection).await;
        done.map(drop).map_err(text)
    }
}

/// Pools of bb8.
pub(crate) struct Bb8;

impl Kind for Bb8 {
    const NAME: &'static str = "bb8";
    type Server = Postgres;
    type Pools = Bb8Pools<PgConnect>;
    type Plain = bb8::Pool<PostgresConnectionManager<NoTls>>;

    fn pools(server: &Postgres) -> Self::Pools {
        Bb8Pools::new(PgConnect::new(config(server)), CONNECTIONS)
            .with_acquire_timeout(ACQUIRE_TIMEOUT)
    }

    async fn plain(server: &Postgres, password: &str) -> Self::Plain {
        let manager = PostgresConnectionManager::new(plain_config(server, password), NoTls);
        let pool = bb8::Pool::builder()
            .max_size(CONNECTIONS)
            .connection_timeout(ACQUIRE_TIMEOUT);
        pool.build(manager).await.expect("a pool")
    }

    async fn call(pool: &Handle<Self::Pools>) -> Result<(), String> {
        let connection = pool.get().await.map_err(text)?;
        let done = connection.batch_execute(QUERY).await;
        done.map_err(text)
    }

    async fn call_plain(pool: &Self::Plain) -> Result<(), String> {
        let connection = pool.get().await.map_err(text)?;
        let done = connection.batch_execute(QUERY).await;
        done.map_err(text)
    }
}
