//! needs: postgresql, alone
//!
//! The laws on pools of diesel-async.

use claviger_diesel_async::deadpool::managed::PoolConfig;
use claviger_diesel_async::diesel::sql_types::BigInt;
use claviger_diesel_async::diesel::{self, QueryableByName};
use claviger_diesel_async::diesel_async::RunQueryDsl;
use claviger_diesel_async::{DieselPools, PgConnect, PgConnection};
use claviger_pool_laws::{PgKind, Size, law_tests};

struct Diesel;

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

impl PgKind for Diesel {
    type Factory = DieselPools;

    fn factory(connect: PgConnect, size: Size) -> DieselPools {
        let mut config = PoolConfig::new(size.max_connections as usize);
        config.timeouts.wait = Some(size.acquire_timeout);
        DieselPools::new(connect, config).with_min_connections(size.min_connections)
    }

    async fn value(connection: &mut PgConnection, sql: &str) -> Result<i64, String> {
        let row = diesel::sql_query(sql).get_result::<Row>(connection).await;
        row.map(|row| row.value).map_err(|error| error.to_string())
    }
}

law_tests!(Diesel);
