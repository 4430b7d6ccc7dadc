//! needs: postgresql, alone
//!
//! The laws on pools of bb8.

use claviger_bb8::{Bb8Connection, Bb8Pools, PgConnect};
use claviger_pool_laws::{PgKind, Size, law_tests};

struct Bb8;

impl PgKind for Bb8 {
    type Factory = Bb8Pools<PgConnect>;

    fn factory(connect: PgConnect, size: Size) -> Self::Factory {
        Bb8Pools::new(connect, size.max_connections)
            .with_acquire_timeout(size.acquire_timeout)
            .with_min_connections(size.min_connections)
    }

    async fn value(connection: &mut Bb8Connection<PgConnect>, sql: &str) -> Result<i64, String> {
        let row = connection.query_one(sql, &[]).await;
        row.map(|row| row.get("value"))
            .map_err(|error| error.to_string())
    }
}

law_tests!(Bb8);
