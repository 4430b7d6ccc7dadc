//! Pools of diesel-async over deadpool.

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::{Credentials, Handle};
use claviger_diesel_async::deadpool::managed::PoolConfig;
use claviger_diesel_async::diesel::dsl::sql;
use claviger_diesel_async::diesel::result::{ConnectionError, DatabaseErrorKind, Error};
use claviger_diesel_async::diesel::sql_types::BigInt;
use claviger_diesel_async::diesel_async::pooled_connection::deadpool::{Pool, PoolError};
use claviger_diesel_async::diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, PoolError as Backend,
};
use claviger_diesel_async::diesel_async::{AsyncPgConnection, RunQueryDsl};
use claviger_diesel_async::{CallError, DieselPools, PgConnect};
use claviger_servers::Postgres;

use super::postgres_config::config;
use super::{CallFailure, Kind};
use crate::{ACQUIRE_TIMEOUT, CONNECTIONS, Problem};

pub(crate) struct Diesel;

impl Kind for Diesel {
    type Server = Postgres;
    type Pools = DieselPools;
    type Plain = Pool<AsyncPgConnection>;

    const NAME: &'static str = "diesel-async";

    fn pools(server: &Postgres) -> Result<DieselPools, Problem> {
        let mut pool = PoolConfig::new(CONNECTIONS as usize);
        pool.timeouts.wait = Some(ACQUIRE_TIMEOUT);
        Ok(DieselPools::new(PgConnect::new(config(server)), pool))
    }

    fn plain_pool(server: &Postgres, credentials: &Credentials) -> Result<Self::Plain, Problem> {
        let url = format!(
            "postgres://{}:{}@{}:{}/orders",
            credentials.user(),
            credentials.expose_password(),
            server.host(),
            server.port()
        );
        let mut config = PoolConfig::new(CONNECTIONS as usize);
        config.timeouts.wait = Some(ACQUIRE_TIMEOUT);
        Ok(Pool::builder(AsyncDieselConnectionManager::new(url))
            .config(config)
            .runtime(claviger_diesel_async::deadpool::Runtime::Tokio1)
            .build()?)
    }

    async fn call(db: &Handle<DieselPools>) -> Result<(), CallFailure> {
        let mut connection = db.get().await.map_err(supervised_failure)?;
        count_orders(&mut connection).await
    }

    async fn call_plain(pool: &Self::Plain) -> Result<(), CallFailure> {
        let mut connection = pool.get().await.map_err(plain_failure)?;
        count_orders(&mut connection).await
    }
}

async fn count_orders(connection: &mut AsyncPgConnection) -> Result<(), CallFailure> {
    sql::<BigInt>("SELECT count(*) FROM orders")
        .get_result::<i64>(connection)
        .await
        .map(drop)
        .map_err(|error| CallFailure {
            lost_connection: is_lost(&error),
            message: error.to_string(),
        })
}

/// Returns the failure of a call that got no connection. A login may lose its connection, too,
/// while diesel sets it up.
fn supervised_failure(error: CallError) -> CallFailure {
    let is_lost = |error: &ConnectError| {
        error.kind() == ConnectErrorKind::Unreachable || is_termination(error.message())
    };
    CallFailure {
        lost_connection: error.connect_error().is_some_and(is_lost),
        message: crate::with_causes(&error),
    }
}

/// Returns the failure of a call that got no connection from the plain pool.
fn plain_failure(error: PoolError) -> CallFailure {
    let query_error = match &error {
        PoolError::Backend(Backend::QueryError(error)) => Some(error),
        PoolError::Backend(Backend::ConnectionError(
            ConnectionError::CouldntSetupConfiguration(error),
        )) => Some(error),
        _ => None,
    };
    CallFailure {
        lost_connection: query_error.is_some_and(is_lost),
        message: crate::with_causes(&error),
    }
}

/// Returns whether the connection was lost. diesel leaves out the SQLSTATE (57P01).
fn is_lost(error: &Error) -> bool {
    let Error::DatabaseError(kind, details) = error else {
        return false;
    };
    matches!(
        kind,
        DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand
    ) || is_termination(details.message())
}

fn is_termination(message: &str) -> bool {
    message.starts_with("terminating connection")
}
