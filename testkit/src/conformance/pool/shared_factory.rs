//! A factory that a supervisor and the kit share.

use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use claviger::Lease;
use claviger::error::ConnectError;
use claviger::pool::{AcquireError, Check, LoginPermits, PoolFactory, PoolSettings, Taken};

/// Forwards every method.
#[derive(Debug)]
pub(super) struct SharedFactory<F>(pub(super) Arc<F>);

impl<F: PoolFactory> PoolFactory for SharedFactory<F> {
    type Secret = F::Secret;
    type Pool = F::Pool;
    type Connection = F::Connection;
    type Error = F::Error;

    fn settings(&self) -> PoolSettings {
        self.0.settings()
    }

    fn check(&self, lease: &Lease<F::Secret>) -> Result<(), ConnectError> {
        self.0.check(lease)
    }

    fn vacant(&self) -> F::Pool {
        self.0.vacant()
    }

    fn verify(&self, secret: &F::Secret) -> impl Future<Output = Result<(), ConnectError>> + Send {
        self.0.verify(secret)
    }

    fn verify_as_pool(
        &self,
        secret: &F::Secret,
        within: Duration,
    ) -> impl Future<Output = Result<(), ConnectError>> + Send {
        self.0.verify_as_pool(secret, within)
    }

    fn account(&self, secret: &F::Secret) -> String {
        self.0.account(secret)
    }

    fn server(&self, secret: &F::Secret) -> String {
        self.0.server(secret)
    }

    fn explain(&self, secret: &F::Secret, error: ConnectError) -> ConnectError {
        self.0.explain(secret, error)
    }

    fn make_room(&self, pool: &F::Pool) -> impl Future<Output = bool> + Send {
        self.0.make_room(pool)
    }

    fn open(&self, secret: &F::Secret, logins: LoginPermits) -> Result<F::Pool, ConnectError> {
        self.0.open(secret, logins)
    }

    fn warm(
        &self,
        pool: &F::Pool,
        connections: u32,
        within: Duration,
    ) -> impl Future<Output = Result<u32, ConnectError>> + Send {
        self.0.warm(pool, connections, within)
    }

    fn update_in_place(&self, pool: &F::Pool, old: &F::Secret, new: &F::Secret) -> bool {
        self.0.update_in_place(pool, old, new)
    }

    fn reauthenticate(&self, pool: &F::Pool, within: Duration) -> impl Future<Output = ()> + Send {
        self.0.reauthenticate(pool, within)
    }

    fn drain(&self, pool: F::Pool) -> impl Future<Output = ()> + Send {
        self.0.drain(pool)
    }

    fn connections(&self, pool: &F::Pool) -> u32 {
        self.0.connections(pool)
    }

    fn idle(&self, pool: &F::Pool) -> u32 {
        self.0.idle(pool)
    }

    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        self.0.classify(error)
    }

    fn classify_probe(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        self.0.classify_probe(error)
    }

    fn try_get(&self, pool: &F::Pool) -> Option<Taken<F::Connection>> {
        self.0.try_get(pool)
    }

    fn get(
        &self,
        pool: &F::Pool,
    ) -> impl Future<Output = Result<Taken<F::Connection>, F::Error>> + Send {
        self.0.get(pool)
    }

    fn check_connection(
        &self,
        connection: &mut F::Connection,
        check: Check,
    ) -> impl Future<Output = Result<(), F::Error>> + Send {
        self.0.check_connection(connection, check)
    }

    fn discard(&self, connection: F::Connection) {
        self.0.discard(connection);
    }

    fn give_back(&self, connection: F::Connection) -> impl Future<Output = ()> + Send {
        self.0.give_back(connection)
    }

    fn is_timeout(&self, error: &F::Error) -> bool {
        self.0.is_timeout(error)
    }

    fn is_closed(&self, error: &F::Error) -> bool {
        self.0.is_closed(error)
    }

    fn error(&self, error: AcquireError<'_>) -> F::Error {
        self.0.error(error)
    }
}
