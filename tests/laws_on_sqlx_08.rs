//! needs: mariadb, postgresql
//!
//! The laws that involve a database server, with sqlx 0.8.

#[expect(clippy::duplicate_mod, reason = "the same laws on two servers")]
#[path = "laws"]
mod on_postgresql {
    mod checks_after_idle;
    mod checks_in_pool;
    mod law_01;
    mod law_02;
    mod law_03;
    mod law_04;
    mod law_05;
    mod law_06;
    mod law_09;
    mod law_10;
    mod law_11;
    mod law_14;
    mod law_15;
    mod shared_rejections;

    use claviger::Handle;
    use claviger_fixtures::sqlx_08::{self as fixtures, Fixture};
    use fixtures::pools::PgPools as Pools;

    /// Returns its parameter.
    const ECHO: &str = "SELECT $1::bigint";
    /// Counts the connections of the role that are idle in a transaction.
    const IN_TRANSACTION: &str = "SELECT count(*) FROM pg_stat_activity \
         WHERE usename = current_user AND state LIKE 'idle in transaction%'";

    type DriverError = fixtures::sqlx::postgres::PgDatabaseError;

    /// Returns whether the driver's error is a rejection with all its details.
    fn is_complete_rejection(error: &DriverError) -> bool {
        (error.severity(), error.code()) == (fixtures::sqlx::postgres::PgSeverity::Fatal, "28P01")
            && error.routine().is_some()
    }
}

#[expect(clippy::duplicate_mod, reason = "the same laws on two servers")]
#[path = "laws"]
mod on_mariadb {
    mod checks_after_idle;
    mod checks_in_pool;
    mod law_01;
    mod law_02;
    mod law_05;
    mod law_09;
    mod law_10;
    mod law_11;
    mod law_15;
    mod shared_rejections;

    use claviger::Handle;
    use claviger_fixtures::sqlx_08 as fixtures;
    use claviger_servers::MariaDb;
    use fixtures::pools::MySqlPools as Pools;

    type Fixture = fixtures::FixtureOn<MariaDb>;

    /// Returns its parameter.
    const ECHO: &str = "SELECT CAST(? AS SIGNED)";
    /// Whether this connection is in a transaction.
    const IN_TRANSACTION: &str = "SELECT CAST(@@in_transaction AS SIGNED)";

    type DriverError = fixtures::sqlx::mysql::MySqlDatabaseError;

    /// Returns whether the driver's error is a rejection with all its details.
    fn is_complete_rejection(error: &DriverError) -> bool {
        (error.number(), error.code()) == (1045, Some("28000"))
    }
}
