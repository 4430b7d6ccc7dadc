//! Pools of sqlx 0.9, which the crate's root has, too.

pub use ::sqlx;

/// The methods of `Executor` that are not the same in both majors.
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
            let shared = Arc::clone(self.shared());
            Box::pin(async move {
                let mut statement = Statement::start(&shared).await?;
                let result = statement.connection()?.prepare_with(sql, parameters).await;
                statement.end(result)
            })
        }

        // There with the feature `macros` of sqlx, whoever switches it on: so this crate does.
        fn describe<'e>(self, sql: sqlx::SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<DB>, Error>>
        where
            'h: 'e,
        {
            let shared = Arc::clone(self.shared());
            Box::pin(async move {
                let mut statement = Statement::start(&shared).await?;
                let result = statement.connection()?.describe(sql).await;
                statement.end(result)
            })
        }
    };
}

#[cfg_attr(
    all(feature = "sqlx-08", feature = "sqlx-09"),
    expect(clippy::duplicate_mod, reason = "one body, once for each major")
)]
#[path = "sqlx/mod.rs"]
mod body;

#[cfg(feature = "mysql")]
pub use body::MySqlPools;
#[cfg(feature = "postgres")]
pub use body::PgPools;
pub use body::{SharedError, SqlPools};

/// Functions that differ between both majors.
mod shim {
    use std::time::Duration;

    use super::sqlx::{Database, Pool};

    /// A statement that the user chose.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(super) fn sql(text: &std::sync::Arc<str>) -> impl super::sqlx::SqlSafeStr + use<> {
        super::sqlx::AssertSqlSafe(std::sync::Arc::clone(text))
    }

    /// Whether the driver prepares a password for SCRAM itself.
    #[cfg(feature = "postgres")]
    pub(super) const PREPARES_PASSWORDS: bool = true;

    /// For how long connections are returned to a pool that is about to be closed, and how often it
    /// is looked at meanwhile.
    const RETURNING: Duration = Duration::from_millis(100);
    const LOOK_EVERY: Duration = Duration::from_millis(10);

    /// Closes a pool: what is idle at once, the rest when it is returned.
    ///
    /// The `close` of 0.9.0 keeps idle connections until no other is busy, and nobody can take them
    /// out of a closed pool. So they are closed before, and with them those that are pinged for
    /// their return, which would be idle afterwards. One whose return begins within the last
    /// millisecond stays idle until no other is busy.
    pub(super) async fn close<DB: Database>(pool: &Pool<DB>) {
        let closing = async {
            loop {
                while let Some(connection) = pool.try_acquire() {
                    // It is closed either way.
                    let _ = connection.close().await;
                }
                if pool.size() == 0 {
                    return;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if !pool.is_closed() {
            let _ = tokio::time::timeout(RETURNING, closing).await;
        }
        pool.close().await;
    }
}
