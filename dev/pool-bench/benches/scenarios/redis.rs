//! The kind of pool on Redis in which all callers share a connection that reconnects by itself.

use std::fmt::Display;

use claviger::Handle;
use claviger_redis::RedisPools;
use claviger_redis::redis::aio::{ConnectionLike, ConnectionManager};
use claviger_redis::redis::{self, Client};
use claviger_servers::Redis;

use crate::kind::{ACQUIRE_TIMEOUT, Database, Kind, USER};

impl Database for Redis {
    fn start(password: &str) -> Self {
        let server = Self::start().expect("a server");
        server.set_user(USER, password).expect("a user");
        server
    }

    fn change_password(&self, password: &str) {
        self.set_password(USER, password).expect("changed");
    }

    fn terminate_connections(&self) {
        self.kill_connections(USER).expect("terminated");
    }

    fn rejected_logins(&self) -> u64 {
        Self::rejected_logins(self).expect("a count")
    }
}

/// The connection manager of redis-rs.
pub(crate) struct Managed;

async fn ping(connection: &mut impl ConnectionLike) -> Result<(), String> {
    let done = redis::cmd("PING").query_async::<()>(connection).await;
    done.map_err(text)
}

fn text(error: impl Display) -> String {
    error.to_string()
}

impl Kind for Managed {
    const NAME: &'static str = "redis";
    type Server = Redis;
    type Pools = RedisPools<claviger_redis::Managed>;
    type Plain = ConnectionManager;

    fn pools(server: &Redis) -> Self::Pools {
        let address = format!("redis://{}:{}", server.host(), server.port());
        let pools = RedisPools::managed(address).expect("an address");
        pools.with_acquire_timeout(ACQUIRE_TIMEOUT)
    }

    async fn plain(server: &Redis, password: &str) -> ConnectionManager {
        let (host, port) = (server.host(), server.port());
        let client = Client::open(format!("redis://{USER}:{password}@{host}:{port}"));
        let manager = ConnectionManager::new(client.expect("an address")).await;
        manager.expect("a connection")
    }

    async fn call(pool: &Handle<Self::Pools>) -> Result<(), String> {
        let mut connection = pool.get().await.map_err(text)?;
        ping(&mut connection).await
    }

    async fn call_plain(pool: &ConnectionManager) -> Result<(), String> {
        ping(&mut pool.clone()).await
    }
}
