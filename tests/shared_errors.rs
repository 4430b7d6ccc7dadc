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
