//! MariaDB, which checks tokens through PAM's first plugin, in clear text over TLS.

#![expect(clippy::expect_used, reason = "a failing helper fails the test")]

use claviger::MySqlPools;
use claviger_servers::{MariaDb, TokenChecks};
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::pool::PoolOptions;

use crate::common::USER;
use crate::scenarios::server::TokenServer;

impl TokenServer for MariaDb {
    type Db = sqlx::MySql;
    type Pools = MySqlPools;

    const REJECTION: (&'static str, &'static str) = ("28000", "Access denied for user");

    fn start_server() -> Self {
        let server = MariaDb::builder()
            .tokens()
            .start()
            .expect("a server starts");
        server.create_token_role(USER).expect("a user is made");
        server
            .create_database("orders", USER)
            .expect("a database is made");
        server
    }

    fn checks(&self) -> &TokenChecks {
        self.token_checks()
    }

    fn options(&self) -> MySqlConnectOptions {
        let authority = self.ca_file().expect("it speaks TLS");
        let options = MySqlConnectOptions::new()
            .host(self.host())
            .port(self.port())
            .database("orders");
        options
            .ssl_mode(MySqlSslMode::VerifyIdentity)
            .ssl_ca(authority)
    }

    fn options_for(&self, token: &str) -> MySqlConnectOptions {
        self.options()
            .username(USER)
            .password(token)
            .enable_cleartext_plugin(true)
    }

    fn pools(&self, options: PoolOptions<sqlx::MySql>) -> MySqlPools {
        MySqlPools::new(self.options(), options)
    }
}
