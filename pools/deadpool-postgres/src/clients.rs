//! Clients of deadpool-postgres, as a kind of connection that deadpool pools.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use claviger::pool::{Check, LoginError};
use claviger_tokio_postgres::deadpool::{ConnectionKind, PermittedLogin, PermittedLogins};
use claviger_tokio_postgres::{CallError, PgConnect, classify};
use deadpool_postgres::{Connect, Manager, ManagerConfig, Object, PoolError, RecyclingMethod};
use tokio::io::empty;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Error, NoTls};

/// Time after which a login of a closed pool fails. Callers of a handle no longer use it by then.
const CLOSED_AFTER: Duration = Duration::from_secs(1);

/// The kind of connection of [`DeadpoolPools`](crate::DeadpoolPools): deadpool-postgres's client.
#[derive(Debug)]
#[non_exhaustive]
pub struct ClientKind;

impl ConnectionKind for ClientKind {
    type Manager = Manager;
    type Connection = Object;

    fn manager(logins: PermittedLogins) -> Manager {
        let config = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        Manager::from_connect(Config::new(), PermittedConnect(logins), config)
    }

    fn call_error(error: PoolError) -> CallError {
        match error {
            PoolError::Backend(error) => error.into(),
            PoolError::Timeout(_) => CallError::TimedOut,
            PoolError::Closed => CallError::Closed,
            error => CallError::Connect(classify(&error).with_source(error)),
        }
    }

    async fn check(
        connect: &PgConnect,
        connection: &mut Object,
        check: Check,
    ) -> Result<(), CallError> {
        Ok(connect.check_connection(connection, check).await?)
    }

    fn discard(connection: Object) {
        drop(Object::take(connection));
    }
}

/// Logs in with the current credentials and a permit.
struct PermittedConnect(PermittedLogins);

type Connecting<'c> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'c>>;

impl Connect for PermittedConnect {
    fn connect(&self, _: &Config) -> Connecting<'_> {
        Box::pin(async move {
            match self.0.log_in(PermittedLogin::connect).await {
                Ok(connected) => Ok(connected),
                Err(LoginError::Failed(error)) => Err(error),
                // The pool was replaced or removed. Callers of the handle no longer use it.
                Err(_) => Err(closed_error().await),
            }
        })
    }
}

/// Returns the driver's error of a closed connection, after a second. The driver has no other
/// constructor.
async fn closed_error() -> Error {
    loop {
        sleep(CLOSED_AFTER).await;
        let mut config = Config::new();
        config.user("closed").ssl_mode(SslMode::Disable);
        if let Err(error) = config.connect_raw(empty(), NoTls).await {
            return error;
        }
    }
}
