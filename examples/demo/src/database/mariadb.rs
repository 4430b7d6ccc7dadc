//! The demo's MariaDB.

#[cfg(feature = "rds-iam")]
use claviger::Credentials;
use claviger::{Handle, MySqlPools};
use claviger_servers::MariaDb;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode};

#[cfg(feature = "rds-iam")]
use super::TokenChecks;
use super::{Access, Database, Orders, with_short_lifetime};
use crate::{ACQUIRE_TIMEOUT, CONNECTIONS, Problem};

const ORDERS: &str = "CREATE TABLE orders AS SELECT seq AS id FROM seq_1_to_1000";

impl Database for MariaDb {
    type Pools = MySqlPools;

    const NAME: &'static str = "MariaDB";
    #[cfg(feature = "secrets-manager")]
    const ENGINE: &'static str = "mariadb";

    fn start(access: Access) -> Result<Self, Problem> {
        let server = match access {
            Access::Password => {
                let server = MariaDb::start()?;
                server.create_role("app", "password-0")?;
                server
            }
            #[cfg(feature = "rds-iam")]
            Access::Tokens => {
                let server = MariaDb::builder().tokens().start()?;
                server.create_token_role("app")?;
                server.create_token_role("plain")?;
                server
            }
        };
        server.create_database("orders", "app")?;
        server.sql_in("orders", ORDERS)?;
        #[cfg(feature = "rds-iam")]
        if access == Access::Tokens {
            server.sql("GRANT SELECT ON orders.* TO plain@'%'")?;
        }
        Ok(server)
    }

    #[cfg(feature = "rds-iam")]
    fn host(&self) -> &str {
        self.host()
    }

    fn port(&self) -> u16 {
        self.port()
    }

    fn pools(&self) -> MySqlPools {
        let pool = with_short_lifetime(
            MySqlPoolOptions::new()
                .max_connections(CONNECTIONS)
                .acquire_timeout(ACQUIRE_TIMEOUT),
        );
        MySqlPools::new(connect_options(self), pool)
    }

    #[cfg(feature = "secrets-manager")]
    fn create_reader(&self, role: &str, password: &str) -> Result<(), Problem> {
        self.create_role(role, password)?;
        self.sql(&format!("GRANT SELECT ON orders.* TO {role}@'%'"))?;
        Ok(())
    }

    fn change_password(&self, role: &str, password: &str) -> Result<(), Problem> {
        Ok(self.set_password(role, password)?)
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
    fn plain_pool(&self, credentials: &Credentials) -> Handle<MySqlPools> {
        let options = connect_options(self)
            .username(credentials.user())
            .password(credentials.expose_password())
            .enable_cleartext_plugin(true);
        Handle::fixed(
            with_short_lifetime(MySqlPoolOptions::new().max_connections(1))
                .connect_lazy_with(options),
        )
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

impl Orders for MySqlPools {
    async fn count(db: &Handle<Self>) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT count(*) FROM orders")
            .fetch_one(db)
            .await
    }
}
