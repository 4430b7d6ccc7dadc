//! needs: postgresql
//!
//! The server terminates a connection (57P01). If its lease ends connections, the role may be gone,
//! so each connection is probed until a probe of the pool succeeds. A listener listens again.

#[expect(
    clippy::duplicate_mod,
    reason = "one body, once for each major of sqlx"
)]
#[path = "majors"]
mod sqlx_08 {
    mod listeners;
    mod terminated_connections;

    use claviger_fixtures::sqlx_08 as fixtures;
}

#[expect(
    clippy::duplicate_mod,
    reason = "one body, once for each major of sqlx"
)]
#[path = "majors"]
mod sqlx_09 {
    mod listeners;
    mod terminated_connections;

    use claviger_fixtures::sqlx_09 as fixtures;
}
