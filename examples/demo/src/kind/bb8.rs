//! Pools of bb8.

use std::time::Duration;

use bb8_postgres::PostgresConnectionManager;
use claviger::{Credentials, Handle};
use claviger_bb8::bb8::Pool;
use claviger_bb8::{Bb8Pools, PgConnect};
use claviger_servers::Postgres;
use claviger_tokio_postgres::tokio_postgres::NoTls;

use super::postgres_config::config;
use super::tokio_postgres::{config_with, count_orders, failure};
use super::{CallFailure, Kind};
use crate::{ACQUIRE_TIMEOUT, CONNECTIONS, Problem};

/// Timeout of a call on the plain pool, which repeats rejected logins until then. bb8's default is
/// 30 s.
const PLAIN_TIMEOUT: Duration = Duration::from_millis(500);

pub(crate) struct Bb8;

impl Kind for Bb8 {
    type Server = Postgres;
    type Pools = Bb8Pools<PgConnect>;
    type Plain = Pool<PostgresConnectionManager<NoTls>>;

    const NAME: &'static str = "bb8";

    fn pools(server: &Postgres) -> Result<Self::Pools, Problem> {
        let pools = Bb8Pools::new(PgConnect::new(config(server)), CONNECTIONS);
        Ok(pools.with_acquire_timeout(ACQUIRE_TIMEOUT))
    }

    fn plain_pool(server: &Postgres, credentials: &Credentials) -> Result<Self::Plain, Problem> {
        let config = config_with(server, credentials);
        Ok(Pool::builder()
            .max_size(CONNECTIONS)
            .connection_timeout(PLAIN_TIMEOUT)
            .build_unchecked(PostgresConnectionManager::new(config, NoTls)))
    }

    async fn call(db: &Handle<Self::Pools>) -> Result<(), CallFailure> {
        let client = db.get().await.map_err(failure)?;
        count_orders(&client).await
    }

    async fn call_plain(pool: &Self::Plain) -> Result<(), CallFailure> {
        let client = pool.get().await.map_err(failure)?;
        count_orders(&client).await
    }
}
