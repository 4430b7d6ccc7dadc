//! `PoolFactory` for pools of bb8.

use std::error::Error as StdError;
use std::future::Future;

use claviger::error::ConnectError;
use claviger::pool::{AcquireError, Check, LoginPermits, PoolFactory, PoolSettings, Taken};
use claviger::{Credentials, Lease};
use claviger_tokio_postgres::CallError;

use crate::managers::ManagerFactory;
use crate::pool::{Bb8Connection, Bb8Pool, discard};
use crate::pools::Bb8Pools;

impl<F: ManagerFactory> PoolFactory for Bb8Pools<F> {
    type Secret = Credentials;
    type Pool = Bb8Pool<F>;
    type Connection = Bb8Connection<F>;
    type Error = CallError;

    fn settings(&self) -> PoolSettings {
        self.settings.pool.clone()
    }

    fn check(&self, lease: &Lease<Credentials>) -> Result<(), ConnectError> {
        self.settings.check_with(lease)?;
        self.managers.check(lease)
    }

    fn vacant(&self) -> Bb8Pool<F> {
        Bb8Pool::vacant()
    }

    fn verify(
        &self,
        credentials: &Credentials,
    ) -> impl Future<Output = Result<(), ConnectError>> + Send {
        self.managers.verify(credentials)
    }

    fn account(&self, credentials: &Credentials) -> String {
        self.managers.account(credentials)
    }

    fn server(&self, credentials: &Credentials) -> String {
        self.managers.server(credentials)
    }

    fn explain(&self, credentials: &Credentials, error: ConnectError) -> ConnectError {
        self.managers.explain(credentials, error)
    }

    fn open(
        &self,
        credentials: &Credentials,
        logins: LoginPermits,
    ) -> Result<Bb8Pool<F>, ConnectError> {
        Bb8Pool::open(self, credentials, logins)
    }

    fn update_in_place(&self, pool: &Bb8Pool<F>, old: &Credentials, new: &Credentials) -> bool {
        old.endpoint() == new.endpoint() && pool.update(new)
    }

    async fn drain(&self, pool: Bb8Pool<F>) {
        pool.drain().await;
    }

    fn connections(&self, pool: &Bb8Pool<F>) -> u32 {
        pool.connections()
    }

    fn idle(&self, pool: &Bb8Pool<F>) -> u32 {
        pool.idle()
    }

    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        classified(error).unwrap_or_else(|| self.managers.classify(error))
    }

    fn classify_probe(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        classified(error).unwrap_or_else(|| self.managers.classify_probe(error))
    }

    fn try_get(&self, pool: &Bb8Pool<F>) -> Option<Taken<Bb8Connection<F>>> {
        pool.take_idle()
    }

    fn get(
        &self,
        pool: &Bb8Pool<F>,
    ) -> impl Future<Output = Result<Taken<Bb8Connection<F>>, CallError>> + Send {
        pool.get()
    }

    fn check_connection(
        &self,
        connection: &mut Bb8Connection<F>,
        check: Check,
    ) -> impl Future<Output = Result<(), CallError>> + Send {
        connection.check(check)
    }

    fn discard(&self, connection: Bb8Connection<F>) {
        discard(connection);
    }

    fn is_timeout(&self, error: &CallError) -> bool {
        matches!(error, CallError::TimedOut)
    }

    fn is_closed(&self, error: &CallError) -> bool {
        matches!(error, CallError::Closed)
    }

    fn error(&self, error: AcquireError<'_>) -> CallError {
        error.into()
    }
}

/// Returns the kind of an error that a manager's factory has classified.
fn classified(error: &(dyn StdError + 'static)) -> Option<ConnectError> {
    match error.downcast_ref() {
        Some(CallError::Connect(error)) => Some(error.clone()),
        _ => error.downcast_ref().cloned(),
    }
}
