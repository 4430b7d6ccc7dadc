//! PostgreSQL.

use claviger::{Handle, PgPools};
use claviger_servers::Postgres;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Postgres as Db};

use super::{Queried, Server};

impl Server for Postgres {
    type Db = Db;
    type Pools = PgPools;

    const REJECTED: &'static str = "28P01";
    const REJECTION: &'static str = "password authentication failed for user \"app\"";

    fn raise() -> Self {
        let server = Self::start().expect("a server starts");
        server.create_role("app", "password-1").expect("a role is made");
        server.create_database("orders", "app").expect("a database is made");
        server
            .sql_in("orders", "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text NOT NULL)")
            .expect("a table is made");
        server.sql_in("orders", "ALTER TABLE orders OWNER TO app").expect("it belongs to the role");
        server
    }

    fn options(&self, login: Option<(&str, &str)>) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass().host(self.host()).port(self.port()).database("orders");
        match login {
            Some((user, password)) => options.username(user).password(password),
            None => options,
        }
    }

    fn factory(options: PgConnectOptions, pool: PgPoolOptions) -> PgPools {
        PgPools::new(options, pool)
    }

    fn change_password(&self, password: &str) {
        self.set_password("app", password).expect("the password is set");
    }

    fn cut_connections(&self) -> usize {
        self.terminate_connections("app").expect("connections are terminated")
    }

    fn run(&self, sql: &str) -> String {
        self.sql_in("orders", sql).expect("the statement runs")
    }

    fn rejected(&self) -> usize {
        self.log().rejected_logins_of("app").expect("the log can be read")
    }

    fn accepted(&self) -> usize {
        self.log().authenticated_logins_of("app").expect("the log can be read")
    }

    fn admit_watcher(&self) {
        self.run("CREATE ROLE watcher LOGIN SUPERUSER PASSWORD 'watcher'");
    }

    async fn count_connections(watcher: &PgPool) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'").fetch_one(watcher).await
    }
}

impl Queried for PgPool {
    async fn ask(handle: &Handle<PgPool>, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::query(sql).execute(handle).await.map(drop)
    }

    fn has_interrupted(error: &sqlx::Error) -> bool {
        match error {
            sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P")),
            // The library's own errors (no lease, an expired one) are no interruption.
            sqlx::Error::Io(_) => claviger::SharedError::connect_error(error).is_none(),
            _ => false,
        }
    }
}
