//! Code for pools whose connections are clients of tokio-postgres.

use std::error::Error as StdError;
use std::io;

use claviger::Credentials;
use claviger_servers::Postgres;
use claviger_tokio_postgres::find_postgres_error;
use claviger_tokio_postgres::tokio_postgres::error::SqlState;
use claviger_tokio_postgres::tokio_postgres::{Client, Config, Error};

use super::CallFailure;
use super::postgres_config::config;

/// Returns the configuration of a plain pool.
pub(super) fn config_with(server: &Postgres, credentials: &Credentials) -> Config {
    let mut config = config(server);
    config
        .user(credentials.user())
        .password(credentials.expose_password());
    config
}

/// Reads the number of orders.
pub(super) async fn count_orders(client: &Client) -> Result<(), CallFailure> {
    client
        .query_one("SELECT count(*) FROM orders", &[])
        .await
        .map(drop)
        .map_err(failure)
}

/// Returns the failure of a statement, or of a call that got no connection. A login may lose its
/// connection, too.
pub(super) fn failure(error: impl StdError + 'static) -> CallFailure {
    CallFailure {
        lost_connection: find_postgres_error(&error).is_some_and(is_lost),
        message: crate::with_causes(&error),
    }
}

fn is_lost(error: &Error) -> bool {
    let is_io = error
        .source()
        .is_some_and(|source| source.is::<io::Error>());
    is_io || error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN)
}
