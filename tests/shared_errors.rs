//! needs: postgresql
//!
//! The error that many callers share: sqlx's idioms work on it, and other errors are no database
//! errors.

#[expect(
    clippy::duplicate_mod,
    reason = "one body, once for each major of sqlx"
)]
#[path = "majors"]
mod sqlx_08 {
    mod shared_errors;

    use claviger_fixtures::sqlx_08 as fixtures;
}

#[expect(
    clippy::duplicate_mod,
    reason = "one body, once for each major of sqlx"
)]
#[path = "majors"]
mod sqlx_09 {
    mod shared_errors;

    use claviger_fixtures::sqlx_09 as fixtures;
}

#[path = "laws/shared_rejections.rs"]
mod on_postgresql;

use claviger::{Handle, PgPools as Pools};
use claviger_fixtures::{self as fixtures, Fixture};

type DriverError = sqlx::postgres::PgDatabaseError;

/// Returns whether the driver's error is a rejection with all its details.
fn is_complete_rejection(error: &DriverError) -> bool {
    (error.severity(), error.code()) == (sqlx::postgres::PgSeverity::Fatal, "28P01")
        && error.routine().is_some()
}
