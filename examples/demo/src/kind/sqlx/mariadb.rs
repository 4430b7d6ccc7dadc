//! sqlx's pools of MariaDB.

use std::time::Duration;

use claviger::{Credentials, Handle, MySqlPools};
use claviger_servers::MariaDb;
use sqlx::MySqlPool;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};

#[cfg(feature = "rds-iam")]
use super::TokenChecks;
use super::{Database, pool_options};
#[cfg(any(feature = "rds-iam", feature = "secrets-manager", feature = "vault"))]
use crate::Problem;
#[cfg(feature = "rds-iam")]
use crate::server;

const COUNT: &str = "SELECT count(*) FROM orders";

impl Database for MariaDb {
    type Pools = MySqlPools;
    type Plain = MySqlPool;

    #[cfg(feature = "secrets-manager")]
    const ENGINE: &'static str = "mariadb";

    #[cfg(feature = "rds-iam")]
    fn start_with_tokens() -> Result<Self, Problem> {
        let server = Self::builder().tokens().start()?;
        for user in [server::APP, server::PLAIN] {
            server.create_token_role(user)?;
        }
        server::mariadb::create_orders(&server)?;
        Ok(server)
    }

    #[cfg(feature = "rds-iam")]
    fn host(&self) -> &str {
        self.host()
    }

    fn pools(&self, lifetime: Option<Duration>) -> MySqlPools {
        MySqlPools::new(connect_options(self), pool_options(lifetime))
    }

    fn plain_pool(&self, credentials: &Credentials, lifetime: Option<Duration>) -> MySqlPool {
        let options = connect_options(self)
            .username(credentials.user())
            .password(credentials.expose_password())
            // Tokens are sent in clear text, over verified TLS.
            .enable_cleartext_plugin(self.ca_file().is_some());
        pool_options(lifetime).connect_lazy_with(options)
    }

    async fn count(db: &Handle<MySqlPools>) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(COUNT).fetch_one(db).await
    }

    async fn count_plain(pool: &MySqlPool) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(COUNT).fetch_one(pool).await
    }

    #[cfg(feature = "secrets-manager")]
    fn create_reader(&self, role: &str, password: &str) -> Result<(), Problem> {
        self.create_role(role, password)?;
        self.sql(&format!("GRANT SELECT ON orders.* TO {role}@'%'"))?;
        Ok(())
    }

    #[cfg(feature = "vault")]
    const KIND: claviger_vault_fixtures::Kind = claviger_vault_fixtures::Kind::MariaDb;

    #[cfg(feature = "vault")]
    fn create_engine_user(&self, user: &str, password: &str) -> Result<(), Problem> {
        self.create_role(user, password)?;
        self.sql(&format!("GRANT ALL ON *.* TO {user}@'%' WITH GRANT OPTION"))?;
        Ok(())
    }

    #[cfg(feature = "vault")]
    fn created_users(&self) -> Result<usize, Problem> {
        Ok(self
            .sql("SELECT count(*) FROM mysql.user WHERE User LIKE 'v-%'")?
            .trim()
            .parse()?)
    }

    #[cfg(feature = "rds-iam")]
    fn token_checks(&self, role: &str) -> Result<TokenChecks, Problem> {
        TokenChecks::count(self.token_checks(), role)
    }
}

fn connect_options(server: &MariaDb) -> MySqlConnectOptions {
    let options = MySqlConnectOptions::new()
        .host(server.host())
        .port(server.port())
        .database("orders");
    match server.ca_file() {
        Some(ca) => options.ssl_mode(MySqlSslMode::VerifyIdentity).ssl_ca(ca),
        None => options.ssl_mode(MySqlSslMode::Disabled),
    }
}
