//! Pools of sqlx 0.9, which are in the crate's root too.

pub use ::sqlx;

/// The methods of `Executor` that differ between sqlx 0.8 and 0.9.
macro_rules! prepare_and_describe {
    () => {
        fn prepare_with<'e>(
            self,
            sql: sqlx::SqlStr,
            parameters: &'e [DB::TypeInfo],
        ) -> BoxFuture<'e, Result<DB::Statement, Error>>
        where
            'h: 'e,
        {
            on_connection!(self, prepare_with(sql, parameters))
        }

        // Exists with sqlx's feature `macros`. Any crate may enable it, so this one does.
        fn describe<'e>(self, sql: sqlx::SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<DB>, Error>>
        where
            'h: 'e,
        {
            on_connection!(self, describe(sql))
        }
    };
}

/// Defines `Handle::begin_with`, whose statement has another type in each version.
macro_rules! begin_with {
    ($(#[$doc:meta])*) => {
        $(#[$doc])*
        pub async fn begin_with(
            &self,
            statement: impl sqlx::SqlSafeStr,
        ) -> Result<Transaction<'static, DB>, Error> {
            self.begin_by(Some(statement.into_sql_str())).await
        }
    };
}

#[cfg_attr(
    all(feature = "sqlx-08", feature = "sqlx-09"),
    expect(clippy::duplicate_mod, reason = "compiled once for each major of sqlx")
)]
#[path = "sqlx/mod.rs"]
mod body;

#[cfg(feature = "mysql")]
pub use body::MySqlPools;
#[cfg(feature = "postgres")]
pub use body::PgPools;
pub use body::{SharedError, SqlPools};

/// Functions that differ between sqlx 0.8 and 0.9.
mod shim {
    use std::time::Duration;

    use super::sqlx::{Database, Pool};

    /// Statement that begins a transaction.
    pub(super) type BeginStatement = super::sqlx::SqlStr;

    /// Returns a statement that the user configured.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(super) fn sql(text: &std::sync::Arc<str>) -> impl super::sqlx::SqlSafeStr + use<> {
        super::sqlx::AssertSqlSafe(std::sync::Arc::clone(text))
    }

    /// Whether the driver itself prepares a password for SCRAM.
    #[cfg(feature = "postgres")]
    pub(super) const PREPARES_PASSWORDS: bool = true;

    /// Maximum time spent on closing connections before the pool.
    const CLOSE_IDLE_FOR: Duration = Duration::from_millis(100);
    /// Time between two checks for idle connections.
    const CHECK_EVERY: Duration = Duration::from_millis(10);

    /// Closes a pool: idle connections at once, the others when they are returned.
    ///
    /// The `close` of 0.9.0 keeps idle connections until none is busy, and a closed pool returns
    /// none of them. So they are closed first, and with them connections whose return still waits
    /// for a ping. One whose return begins in the last millisecond stays open until none is busy.
    pub(super) async fn close<DB: Database>(pool: &Pool<DB>) {
        let closing = async {
            loop {
                while let Some(connection) = pool.try_acquire() {
                    // An error closes the connection too.
                    let _ = connection.close().await;
                }
                if pool.size() == 0 {
                    return;
                }
                tokio::time::sleep(CHECK_EVERY).await;
            }
        };
        if !pool.is_closed() {
            let _ = tokio::time::timeout(CLOSE_IDLE_FOR, closing).await;
        }
        pool.close().await;
    }
}
