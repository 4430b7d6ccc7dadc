//! Logins and errors of tokio-postgres, for both kinds of PostgreSQL pools.

use std::error::Error as StdError;
use std::time::Duration;

use claviger::Credentials;
use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::Check;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, Error, NoTls};

/// Maximum wait for the task of a closed connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) fn config_for(config: &Config, credentials: &Credentials) -> Config {
    let mut config = config.clone();
    config
        .user(credentials.user())
        .password(credentials.expose_password());
    config
}

pub(crate) async fn log_in(config: Config) -> Result<(Client, JoinHandle<()>), Error> {
    let (client, connection) = config.connect(NoTls).await?;
    // The client's next call returns the connection's error.
    let task = tokio::spawn(async move { drop(connection.await) });
    Ok((client, task))
}

/// Logs in with a bare connection, probes it and logs out.
pub(crate) async fn verify(config: Config) -> Result<(), ConnectError> {
    let (client, task) = log_in(config).await.map_err(verification_error)?;
    let probed = check(&client, Check::Probe).await;
    drop(client);
    let _ = timeout(CLOSE_TIMEOUT, task).await;
    probed.map_err(verification_error)
}

fn verification_error(error: Error) -> ConnectError {
    connect_error(&error)
        .with_source(error)
        .into_postgres_verification()
}

pub(crate) async fn check(client: &Client, check: Check) -> Result<(), Error> {
    let sql = match check {
        Check::Probe => "select 1 from pg_roles where rolname = current_user",
        _ => "",
    };
    client.simple_query(sql).await.map(drop)
}

pub(crate) fn connect_error(error: &Error) -> ConnectError {
    if let Some(error) = error.as_db_error() {
        let code = error.code().code();
        let kind = ConnectErrorKind::from_postgres(Some(code), error.routine(), error.message());
        return ConnectError::new(kind, error.message()).with_code(code);
    }
    let is_io = std::iter::successors(error.source(), |&error| error.source())
        .any(|error| error.is::<std::io::Error>());
    let kind = if is_io || error.is_closed() {
        ConnectErrorKind::Unreachable
    } else {
        ConnectErrorKind::Other
    };
    ConnectError::new(kind, error.to_string())
}
