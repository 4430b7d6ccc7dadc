//! Pools of deadpool-postgres, as a kind of pool.

use claviger_deadpool_postgres::deadpool_postgres::{Object, PoolConfig};
use claviger_deadpool_postgres::{DeadpoolPool, DeadpoolPools, PgConnect};
use claviger_pool_laws::{PgKind, Settings};

pub(crate) struct Deadpool;

impl PgKind for Deadpool {
    type Factory = DeadpoolPools;

    fn factory(connect: PgConnect, settings: Settings) -> DeadpoolPools {
        let mut config = PoolConfig::new(settings.max_connections as usize);
        config.timeouts.wait = Some(settings.acquire_timeout);
        DeadpoolPools::new(connect, config)
            .with_min_connections(settings.min_connections)
            .with_checks(settings.checks)
            .with_handover_policy(settings.policy)
            .with_max_lifetime(settings.max_lifetime)
            .with_idle_timeout(settings.idle_timeout)
    }

    async fn value(connection: &mut Object, sql: &str) -> Result<i64, String> {
        let row = connection.query_one(sql, &[]).await;
        row.map(|row| row.get("value"))
            .map_err(|error| error.to_string())
    }

    async fn transaction(connection: &mut Object, sql: &str) -> Result<(), String> {
        let executed = async {
            let transaction = connection.transaction().await?;
            transaction.query_one(sql, &[]).await?;
            transaction.commit().await
        };
        executed.await.map_err(|error| error.to_string())
    }

    async fn take_from(pool: &DeadpoolPool) -> Result<String, String> {
        let pool = pool.deadpool().ok_or("it is vacant")?;
        let connection = pool.get().await.map_err(|error| error.to_string())?;
        Ok(format!("{pool:?} {connection:?}"))
    }
}
