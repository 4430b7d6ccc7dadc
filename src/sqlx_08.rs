//! Pools of sqlx 0.8, whatever else is on: what the crate's root has for sqlx 0.9.

pub use ::sqlx_08 as sqlx;

/// The methods of `Executor` that are not the same in both majors.
macro_rules! prepare_and_describe {
    () => {
        fn prepare_with<'e, 'q: 'e>(
            self,
            sql: &'q str,
            parameters: &'e [DB::TypeInfo],
        ) -> BoxFuture<'e, Result<<DB as sqlx::Database>::Statement<'q>, Error>>
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

        fn describe<'e, 'q: 'e>(
            self,
            sql: &'q str,
        ) -> BoxFuture<'e, Result<sqlx::Describe<DB>, Error>>
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

/// What the body asks and is not the same in both majors.
mod shim {
    use super::sqlx::{Database, Pool};

    /// A statement that the user chose.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(super) fn sql(text: &std::sync::Arc<str>) -> &str {
        text
    }

    /// Whether the driver prepares a password for SCRAM itself.
    #[cfg(feature = "postgres")]
    pub(super) const PREPARES_PASSWORDS: bool = false;

    /// Closes a pool: what is idle at once, the rest when it is returned.
    ///
    /// The `close` of 0.8.6 is not enough by itself: for each idle connection that it closes, it
    /// gives a permit back that nobody had taken. It may return while as many others are busy, and
    /// overlooks one that comes back in its last round.
    pub(super) async fn close<DB: Database>(pool: &Pool<DB>) {
        pool.close().await;
    }
}
