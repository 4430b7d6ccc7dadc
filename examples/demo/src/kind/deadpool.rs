//! Pools of deadpool-postgres.

use claviger::{Credentials, Handle};
use claviger_deadpool_postgres::deadpool_postgres::{
    Manager, ManagerConfig, Pool, PoolConfig, Runtime,
};
use claviger_deadpool_postgres::{DeadpoolPools, PgConnect};
use claviger_servers::Postgres;
use claviger_tokio_postgres::tokio_postgres::NoTls;

use super::postgres_config::config;
use super::tokio_postgres::{config_with, count_orders, failure};
use super::{CallFailure, Kind};
use crate::{ACQUIRE_TIMEOUT, CONNECTIONS, Problem};

pub(crate) struct Deadpool;

impl Kind for Deadpool {
    type Server = Postgres;
    type Pools = DeadpoolPools;
    type Plain = Pool;

    const NAME: &'static str = "deadpool-postgres";

    fn pools(server: &Postgres) -> Result<DeadpoolPools, Problem> {
        let mut pool = PoolConfig::new(CONNECTIONS as usize);
        pool.timeouts.wait = Some(ACQUIRE_TIMEOUT);
        Ok(DeadpoolPools::new(PgConnect::new(config(server)), pool))
    }

    fn plain_pool(server: &Postgres, credentials: &Credentials) -> Result<Pool, Problem> {
        let config = config_with(server, credentials);
        let manager = Manager::from_config(config, NoTls, ManagerConfig::default());
        Ok(Pool::builder(manager)
            .max_size(CONNECTIONS as usize)
            .wait_timeout(Some(ACQUIRE_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()?)
    }

    async fn call(db: &Handle<DeadpoolPools>) -> Result<(), CallFailure> {
        let client = db.get().await.map_err(failure)?;
        count_orders(&client).await
    }

    async fn call_plain(pool: &Pool) -> Result<(), CallFailure> {
        let client = pool.get().await.map_err(failure)?;
        count_orders(&client).await
    }
}
