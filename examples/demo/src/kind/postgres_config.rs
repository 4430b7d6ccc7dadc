//! The configuration of connections to the demo's PostgreSQL.

use claviger_servers::Postgres;
use claviger_tokio_postgres::tokio_postgres::Config;
use claviger_tokio_postgres::tokio_postgres::config::SslMode;

/// Returns the configuration without credentials.
pub(super) fn config(server: &Postgres) -> Config {
    let mut config = Config::new();
    config
        .host(server.host())
        .port(server.port())
        .dbname("orders")
        .ssl_mode(SslMode::Disable);
    config
}
