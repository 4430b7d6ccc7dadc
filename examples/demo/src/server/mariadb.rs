//! The demo's MariaDB.

use claviger_servers::MariaDb;

use super::{APP, FIRST_PASSWORD, PLAIN, Server};
use crate::Problem;

const ORDERS: &str = "CREATE TABLE orders AS SELECT seq AS id FROM seq_1_to_1000";

impl Server for MariaDb {
    const NAME: &'static str = "MariaDB";
    const CHANGE: &'static str = "ALTER USER";

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
        self.terminate_connections(user)?;
        Ok(())
    }

    fn rejected_logins(&self, user: &str) -> Result<u64, Problem> {
        Ok(u64::try_from(self.log().rejected_logins_of(user)?)?)
    }
}

/// Creates the database `orders` with its table.
pub(crate) fn create_orders(server: &MariaDb) -> Result<(), Problem> {
    server.create_database("orders", APP)?;
    server.sql_in("orders", ORDERS)?;
    server.sql(&format!("GRANT SELECT ON orders.* TO {PLAIN}@'%'"))?;
    Ok(())
}
