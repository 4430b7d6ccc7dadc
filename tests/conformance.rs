//! needs: postgresql, quiet
//!
//! sqlx's pools pass the conformance kit on PostgreSQL.

#[expect(
    clippy::duplicate_mod,
    reason = "one body, once for each major of sqlx"
)]
#[path = "majors"]
mod sqlx_08 {
    mod conformance;

    use claviger_fixtures::sqlx_08 as fixtures;
    use claviger_servers::Postgres as Subject;
}

#[expect(
    clippy::duplicate_mod,
    reason = "one body, once for each major of sqlx"
)]
#[path = "majors"]
mod sqlx_09 {
    mod conformance;

    use claviger_fixtures::sqlx_09 as fixtures;
    use claviger_servers::Postgres as Subject;
}
