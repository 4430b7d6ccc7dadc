//! The demo's PostgreSQL.

#[cfg(feature = "rds-iam")]
use claviger::Credentials;
use claviger::{Handle, PgPools};
use claviger_servers::Postgres;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

#[cfg(feature = "rds-iam")]
use super::TokenChecks;
use super::{Access, Database, Orders, with_short_lifetime};
use crate::{ACQUIRE_TIMEOUT, CONNECTIONS, Problem};

const ORDERS: &str = "CREATE TABLE orders AS SELECT n AS id FROM generate_series(1, 1000) n; \
     GRANT ALL ON orders TO PUBLIC";

impl Database for Postgres {
    type Pools = PgPools;

    const NAME: &'static str = "PostgreSQL";
    #[cfg(feature = "secrets-manager")]
    const ENGINE: &'static str = "postgres";

    fn start(access: Access) -> Result<Self, Problem> {
        let server = match access {
            Access::Password => {
                let server = Postgres::start()?;
                server.create_role("app", "password-0")?;
                server
            }
            #[cfg(feature = "rds-iam")]
            Access::Tokens => {
                let server = Postgres::builder().tokens().start()?;
                server.create_token_role("app")?;
                server.create_token_role("plain")?;
                server
            }
        };
        server.create_database("orders", "app")?;
        server.sql_in("orders", ORDERS)?;
        Ok(server)
    }

    #[cfg(feature = "rds-iam")]
    fn host(&self) -> &str {
        self.host()
    }

    fn port(&self) -> u16 {
        self.port()
    }

    fn pools(&self) -> PgPools {
        let pool = with_short_lifetime(
            PgPoolOptions::new()
                .max_connections(CONNECTIONS)
                .acquire_timeout(ACQUIRE_TIMEOUT),
        );
        PgPools::new(connect_options(self), pool)
    }

    #[cfg(feature = "secrets-manager")]
    fn create_reader(&self, role: &str, password: &str) -> Result<(), Problem> {
        Ok(self.create_role(role, password)?)
    }

    fn change_password(&self, role: &str, password: &str) -> Result<(), Problem> {
        Ok(self.set_password(role, password)?)
    }

    #[cfg(feature = "vault")]
    const KIND: claviger_vault_fixtures::Kind = claviger_vault_fixtures::Kind::PostgreSql;

    #[cfg(feature = "vault")]
    fn create_engine_user(&self, user: &str, password: &str) -> Result<(), Problem> {
        self.sql(&format!(
            "CREATE ROLE {user} LOGIN SUPERUSER PASSWORD '{password}'"
        ))?;
        Ok(())
    }

    #[cfg(feature = "vault")]
    fn created_users(&self) -> Result<usize, Problem> {
        Ok(self
            .sql("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'")?
            .trim()
            .parse()?)
    }

    #[cfg(feature = "rds-iam")]
    fn plain_pool(&self, credentials: &Credentials) -> Handle<PgPools> {
        let options = connect_options(self)
            .username(credentials.user())
            .password(credentials.expose_password());
        Handle::fixed(
            with_short_lifetime(PgPoolOptions::new().max_connections(1)).connect_lazy_with(options),
        )
    }

    #[cfg(feature = "rds-iam")]
    fn token_checks(&self, role: &str) -> Result<TokenChecks, Problem> {
        TokenChecks::count(self.token_checks(), role)
    }
}

fn connect_options(server: &Postgres) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass()
        .host(server.host())
        .port(server.port())
        .database("orders");
    match server.ca_file() {
        Some(ca) => options
            .ssl_mode(sqlx::postgres::PgSslMode::VerifyFull)
            .ssl_root_cert(ca),
        None => options,
    }
}

impl Orders for PgPools {
    async fn count(db: &Handle<Self>) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT count(*) FROM orders")
            .fetch_one(db)
            .await
    }
}
