//! The demo's Redis.

use claviger_servers::Redis;

use super::{APP, FIRST_PASSWORD, PLAIN, Server};
use crate::Problem;

impl Server for Redis {
    const NAME: &'static str = "Redis";
    const CHANGE: &'static str = "ACL SETUSER";

    fn start() -> Result<Self, Problem> {
        let server = Self::start()?;
        for user in [APP, PLAIN] {
            server.set_user(user, FIRST_PASSWORD)?;
        }
        server.command(&["SET", "orders", "1000"])?;
        Ok(server)
    }

    fn port(&self) -> u16 {
        self.port()
    }

    fn change_password(&self, user: &str, password: &str) -> Result<(), Problem> {
        Ok(self.set_password(user, password)?)
    }

    fn kill_connections(&self, user: &str) -> Result<(), Problem> {
        Redis::kill_connections(self, user)?;
        Ok(())
    }

    fn rejected_logins(&self, user: &str) -> Result<u64, Problem> {
        Ok(self.rejected_logins_of(user)?)
    }
}
