//! needs: postgresql, pgbouncer
//!
//! Passwords that SASLprep (RFC 4013) changes work wherever they work in psql.

#[expect(
    clippy::duplicate_mod,
    reason = "one body, once for each major of sqlx"
)]
#[path = "majors"]
mod sqlx_08 {
    mod unusual_passwords;

    use claviger_fixtures::sqlx_08 as fixtures;
}

#[expect(
    clippy::duplicate_mod,
    reason = "one body, once for each major of sqlx"
)]
#[path = "majors"]
mod sqlx_09 {
    mod unusual_passwords;

    use claviger_fixtures::sqlx_09 as fixtures;
}
