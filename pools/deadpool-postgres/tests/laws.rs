//! needs: postgresql, alone
//!
//! The laws on pools of deadpool.

use claviger_deadpool_postgres::deadpool_postgres::{Object, PoolConfig};
use claviger_deadpool_postgres::{DeadpoolPools, PgConnect};
use claviger_pool_laws::{PgKind, Size, law_tests};

struct Deadpool;

impl PgKind for Deadpool {
    type Factory = DeadpoolPools;

    fn factory(connect: PgConnect, size: Size) -> DeadpoolPools {
        let mut config = PoolConfig::new(size.max_connections as usize);
        config.timeouts.wait = Some(size.acquire_timeout);
        DeadpoolPools::new(connect, config).with_min_connections(size.min_connections)
    }

    async fn value(connection: &mut Object, sql: &str) -> Result<i64, String> {
        let row = connection.query_one(sql, &[]).await;
        row.map(|row| row.get("value"))
            .map_err(|error| error.to_string())
    }
}

law_tests!(Deadpool);
