//! Pools of sqlx 0.8. The crate's root has those of sqlx 0.9.

pub use ::sqlx_08 as sqlx;

/// The methods of `Executor` that differ between sqlx 0.8 and 0.9.
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
            on_connection!(self, prepare_with(sql, parameters))
        }

        fn describe<'e, 'q: 'e>(
            self,
            sql: &'q str,
        ) -> BoxFuture<'e, Result<sqlx::Describe<DB>, Error>>
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
            statement: impl Into<std::borrow::Cow<'static, str>>,
        ) -> Result<Transaction<'static, DB>, Error> {
            self.begin_by(Some(statement.into())).await
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
    use super::sqlx::{Database, Pool};

    /// Statement that begins a transaction.
    pub(super) type BeginStatement = std::borrow::Cow<'static, str>;

    /// Returns a statement that the user configured.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(super) fn sql(text: &std::sync::Arc<str>) -> &str {
        text
    }

    /// Whether the driver itself prepares a password for SCRAM.
    #[cfg(feature = "postgres")]
    pub(super) const PREPARES_PASSWORDS: bool = false;

    /// Closes a pool: idle connections at once, the others when they are returned.
    ///
    /// This may return while connections are busy, because the `close` of 0.8.6 releases one
    /// permit too many for each idle connection. It may also miss a connection that is returned
    /// during its last pass.
    pub(super) async fn close<DB: Database>(pool: &Pool<DB>) {
        pool.close().await;
    }
}
