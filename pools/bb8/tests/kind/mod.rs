//! Pools of bb8, as a kind of pool.

use claviger_bb8::{Bb8Connection, Bb8Pool, Bb8Pools, PgConnect};
use claviger_pool_laws::{PgKind, Settings};

pub(crate) struct Bb8;

impl PgKind for Bb8 {
    type Factory = Bb8Pools<PgConnect>;

    fn factory(connect: PgConnect, settings: Settings) -> Self::Factory {
        Bb8Pools::new(connect, settings.max_connections)
            .with_acquire_timeout(settings.acquire_timeout)
            .with_min_connections(settings.min_connections)
            .with_checks(settings.checks)
            .with_handover_policy(settings.policy)
            .with_max_lifetime(settings.max_lifetime)
            .with_idle_timeout(settings.idle_timeout)
    }

    async fn value(connection: &mut Bb8Connection<PgConnect>, sql: &str) -> Result<i64, String> {
        let row = connection.query_one(sql, &[]).await;
        row.map(|row| row.get("value"))
            .map_err(|error| error.to_string())
    }

    async fn transaction(
        connection: &mut Bb8Connection<PgConnect>,
        sql: &str,
    ) -> Result<(), String> {
        let executed = async {
            let transaction = connection.transaction().await?;
            transaction.query_one(sql, &[]).await?;
            transaction.commit().await
        };
        executed.await.map_err(|error| error.to_string())
    }

    async fn take_from(pool: &Bb8Pool<PgConnect>) -> Result<String, String> {
        let pool = pool.bb8().ok_or("it is vacant")?;
        let connection = pool.get().await.map_err(|error| error.to_string())?;
        Ok(format!("{pool:?} {connection:?}"))
    }
}
