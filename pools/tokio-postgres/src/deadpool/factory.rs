//! `PoolFactory` for pools of deadpool.

use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::{AcquireError, Check, LoginPermits, PoolFactory, PoolSettings, Taken};
use claviger::{Credentials, Lease};
use tokio::time::timeout;

use super::{ConnectionKind, ManagedPool, ManagedPools};
use crate::{CallError, classify, classify_probe};

impl<K: ConnectionKind> PoolFactory for ManagedPools<K> {
    type Secret = Credentials;
    type Pool = ManagedPool<K>;
    type Connection = K::Connection;
    type Error = CallError;

    fn settings(&self) -> PoolSettings {
        self.settings.pool.clone()
    }

    fn check(&self, lease: &Lease<Credentials>) -> Result<(), ConnectError> {
        self.check_settings(lease)?;
        self.connect.check_lease(lease)
    }

    fn vacant(&self) -> ManagedPool<K> {
        ManagedPool::vacant()
    }

    fn verify(
        &self,
        credentials: &Credentials,
    ) -> impl Future<Output = Result<(), ConnectError>> + Send {
        self.connect.verify(credentials)
    }

    fn account(&self, credentials: &Credentials) -> String {
        self.connect.account(credentials)
    }

    fn server(&self, credentials: &Credentials) -> String {
        self.connect.server(credentials)
    }

    fn explain(&self, credentials: &Credentials, error: ConnectError) -> ConnectError {
        self.connect.explain(credentials, error)
    }

    fn open(
        &self,
        credentials: &Credentials,
        logins: LoginPermits,
    ) -> Result<ManagedPool<K>, ConnectError> {
        ManagedPool::open(self, credentials, logins)
    }

    fn update_in_place(&self, pool: &ManagedPool<K>, old: &Credentials, new: &Credentials) -> bool {
        old.endpoint() == new.endpoint() && pool.update(new)
    }

    async fn drain(&self, pool: ManagedPool<K>) {
        pool.drain().await;
    }

    fn connections(&self, pool: &ManagedPool<K>) -> u32 {
        pool.connections()
    }

    fn idle(&self, pool: &ManagedPool<K>) -> u32 {
        pool.idle()
    }

    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        classify(error)
    }

    fn classify_probe(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        classify_probe(error)
    }

    fn try_get(&self, pool: &ManagedPool<K>) -> Option<Taken<K::Connection>> {
        pool.take_idle()
    }

    async fn get(&self, pool: &ManagedPool<K>) -> Result<Taken<K::Connection>, CallError> {
        pool.get().await
    }

    async fn check_connection(
        &self,
        connection: &mut K::Connection,
        check: Check,
    ) -> Result<(), CallError> {
        let checking = K::check(&self.connect, connection, check);
        match self.config.timeouts.recycle {
            None => checking.await,
            Some(limit) => timeout(limit, checking)
                .await
                .unwrap_or_else(|_| Err(no_response(limit))),
        }
    }

    fn discard(&self, connection: K::Connection) {
        K::discard(connection);
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

fn no_response(limit: Duration) -> CallError {
    let message = format!("the connection did not respond within {limit:?} (timeouts.recycle)");
    CallError::Connect(ConnectError::new(ConnectErrorKind::Unreachable, message))
}
