//! Pools of diesel-async, as a kind of pool.

use claviger_diesel_async::deadpool::managed::PoolConfig;
use claviger_diesel_async::diesel::result::Error;
use claviger_diesel_async::diesel::sql_types::BigInt;
use claviger_diesel_async::diesel::{self, QueryableByName};
use claviger_diesel_async::diesel_async::{AsyncConnection, RunQueryDsl};
use claviger_diesel_async::{DieselPool, DieselPools, PgConnect, PgConnection};
use claviger_pool_laws::{PgKind, Settings};

pub(crate) struct Diesel;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

impl PgKind for Diesel {
    type Factory = DieselPools;

    fn factory(connect: PgConnect, settings: Settings) -> DieselPools {
        let mut config = PoolConfig::new(settings.max_connections as usize);
        config.timeouts.wait = Some(settings.acquire_timeout);
        DieselPools::new(connect, config)
            .with_min_connections(settings.min_connections)
            .with_checks(settings.checks)
            .with_handover_policy(settings.policy)
            .with_max_lifetime(settings.max_lifetime)
            .with_idle_timeout(settings.idle_timeout)
    }

    async fn value(connection: &mut PgConnection, sql: &str) -> Result<i64, String> {
        let row = diesel::sql_query(sql).get_result::<Row>(connection).await;
        row.map(|row| row.value).map_err(|error| error.to_string())
    }

    async fn transaction(connection: &mut PgConnection, sql: &str) -> Result<(), String> {
        let committed = connection.transaction(async |connection| {
            diesel::sql_query(sql).execute(connection).await?;
            Ok::<_, Error>(())
        });
        committed.await.map_err(|error| error.to_string())
    }

    async fn take_from(pool: &DieselPool) -> Result<String, String> {
        let pool = pool.deadpool().ok_or("it is vacant")?;
        let taken = pool.get().await;
        let _connection = taken.map_err(|error| error.to_string())?;
        Ok(format!("{:?}", pool.status()))
    }
}
