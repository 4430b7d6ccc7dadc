//! Connections of diesel-async, as a kind of connection that deadpool pools.

use claviger::pool::{Check, LoginError};
use claviger_tokio_postgres::deadpool::{ConnectionKind, PermittedLogins};
use claviger_tokio_postgres::{CallError, PgConnect, login_error};
use diesel::ConnectionResult;
use diesel_async::pooled_connection::deadpool::PoolError;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod,
};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::FutureExt;

use crate::connection::PgConnection;
use crate::errors::{call_error, check_error, into_diesel, setup_error};

/// The kind of connection of [`DieselPools`](crate::DieselPools): [`PgConnection`].
#[derive(Debug)]
#[non_exhaustive]
pub struct PgConnectionKind;

impl ConnectionKind for PgConnectionKind {
    type Manager = AsyncDieselConnectionManager<AsyncPgConnection>;
    type Connection = PgConnection;

    fn manager(logins: PermittedLogins) -> Self::Manager {
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = Box::new(move |_| {
            let logins = logins.clone();
            async move { log_in(&logins).await }.boxed()
        });
        AsyncDieselConnectionManager::new_with_config("", config)
    }

    fn call_error(error: PoolError) -> CallError {
        call_error(error)
    }

    async fn check(
        connect: &PgConnect,
        connection: &mut PgConnection,
        check: Check,
    ) -> Result<(), CallError> {
        let checked = connection.batch_execute(connect.check_sql(check)).await;
        checked.map_err(|error| CallError::Connect(check_error(error, check)))
    }

    fn discard(connection: PgConnection) {
        connection.close();
    }
}

async fn log_in(logins: &PermittedLogins) -> ConnectionResult<AsyncPgConnection> {
    let ended = logins.log_in(|login| async move {
        let (client, _task) = login.connect().await.map_err(login_error)?;
        let set_up = AsyncPgConnection::try_from(client).await;
        set_up.map_err(setup_error)
    });
    ended.await.map_err(|error| {
        into_diesel(match error {
            LoginError::Failed(error) => CallError::Connect(error),
            // The pool was replaced or removed. Callers of the handle no longer use it.
            _ => CallError::Closed,
        })
    })
}
