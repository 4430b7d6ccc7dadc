//! MariaDB.

use claviger::{Handle, MySqlPools};
use claviger_servers::MariaDb;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode};
use sqlx::{MySql, MySqlPool};

use super::{Queried, Server};

impl Server for MariaDb {
    type Db = MySql;
    type Pools = MySqlPools;

    const REJECTED: &'static str = "28000";
    const REJECTION: &'static str = "Access denied for user 'app'@'127.0.0.1' (using password: YES)";

    fn raise() -> Self {
        let server = Self::start().expect("a server starts");
        server.create_role("app", "password-1").expect("a role is made");
        server.create_database("orders", "app").expect("a database is made");
        server.sql_in("orders", "CREATE TABLE orders (id bigint AUTO_INCREMENT PRIMARY KEY, note text NOT NULL)").expect("a table is made");
        server
    }

    fn options(&self, login: Option<(&str, &str)>) -> MySqlConnectOptions {
        let options = MySqlConnectOptions::new().host(self.host()).port(self.port()).database("orders").ssl_mode(MySqlSslMode::Disabled);
        match login {
            Some((user, password)) => options.username(user).password(password),
            None => options,
        }
    }

    fn factory(options: MySqlConnectOptions, pool: MySqlPoolOptions) -> MySqlPools {
        MySqlPools::new(options, pool)
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
        self.run("CREATE USER watcher@'%' IDENTIFIED BY 'watcher'; GRANT ALL ON *.* TO watcher@'%'");
    }

    async fn count_connections(watcher: &MySqlPool) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT count(*) FROM information_schema.processlist WHERE user = 'app'").fetch_one(watcher).await
    }
}

impl Queried for MySqlPool {
    async fn ask(handle: &Handle<MySqlPool>, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::query(sql).execute(handle).await.map(drop)
    }

    fn has_interrupted(error: &sqlx::Error) -> bool {
        match error {
            // ER_QUERY_INTERRUPTED, ER_CONNECTION_KILLED.
            sqlx::Error::Database(error) => error.code().is_some_and(|code| code == "70100"),
            // The library's own errors (no lease, an expired one) are no interruption.
            sqlx::Error::Io(_) => claviger::SharedError::connect_error(error).is_none(),
            _ => false,
        }
    }
}
