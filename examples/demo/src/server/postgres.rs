//! The demo's PostgreSQL.

use claviger_servers::Postgres;
use claviger_servers::postgres::quote_literal;

use super::{APP, FIRST_PASSWORD, PLAIN, Server};
use crate::Problem;

const ORDERS: &str = "CREATE TABLE orders AS SELECT n AS id FROM generate_series(1, 1000) n; \
     GRANT ALL ON orders TO PUBLIC";

impl Server for Postgres {
    const NAME: &'static str = "PostgreSQL";
    const CHANGE: &'static str = "ALTER ROLE";

    fn start() -> Result<Self, Problem> {
        let server = Self::start()?;
        for user in [APP, PLAIN] {
            server.create_role(user, FIRST_PASSWORD)?;
        }
        create_orders(&server)?;
        Ok(server)
    }

    fn port(&self) -> u16 {
        self.port()
    }

    fn change_password(&self, user: &str, password: &str) -> Result<(), Problem> {
        Ok(self.set_password(user, password)?)
    }

    fn kill_connections(&self, user: &str) -> Result<(), Problem> {
        // All at once, as a restart of the server does.
        self.sql(&format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = {}",
            quote_literal(user)
        ))?;
        Ok(())
    }

    fn rejected_logins(&self, user: &str) -> Result<u64, Problem> {
        Ok(u64::try_from(self.log().rejected_logins_of(user)?)?)
    }
}

/// Creates the database `orders` with its table.
pub(crate) fn create_orders(server: &Postgres) -> Result<(), Problem> {
    server.create_database("orders", APP)?;
    server.sql_in("orders", ORDERS)?;
    Ok(())
}
