//! sqlx's pools of PostgreSQL.

use std::time::Duration;

use claviger::{Credentials, Handle, PgPools};
use claviger_servers::Postgres;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;

#[cfg(feature = "rds-iam")]
use super::TokenChecks;
use super::{Database, pool_options};
#[cfg(any(feature = "rds-iam", feature = "secrets-manager", feature = "vault"))]
use crate::Problem;
#[cfg(feature = "rds-iam")]
use crate::server;

const COUNT: &str = "SELECT count(*) FROM orders";

impl Database for Postgres {
    type Pools = PgPools;
    type Plain = PgPool;

    #[cfg(feature = "secrets-manager")]
    const ENGINE: &'static str = "postgres";

    #[cfg(feature = "rds-iam")]
    fn start_with_tokens() -> Result<Self, Problem> {
        let server = Self::builder().tokens().start()?;
        for user in [server::APP, server::PLAIN] {
            server.create_token_role(user)?;
        }
        server::postgres::create_orders(&server)?;
        Ok(server)
    }

    #[cfg(feature = "rds-iam")]
    fn host(&self) -> &str {
        self.host()
    }

    fn pools(&self, lifetime: Option<Duration>) -> PgPools {
        PgPools::new(connect_options(self), pool_options(lifetime))
    }

    fn plain_pool(&self, credentials: &Credentials, lifetime: Option<Duration>) -> PgPool {
        let options = connect_options(self)
            .username(credentials.user())
            .password(credentials.expose_password());
        pool_options(lifetime).connect_lazy_with(options)
    }

    async fn count(db: &Handle<PgPools>) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(COUNT).fetch_one(db).await
    }

    async fn count_plain(pool: &PgPool) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(COUNT).fetch_one(pool).await
    }

    #[cfg(feature = "secrets-manager")]
    fn create_reader(&self, role: &str, password: &str) -> Result<(), Problem> {
        Ok(self.create_role(role, password)?)
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
