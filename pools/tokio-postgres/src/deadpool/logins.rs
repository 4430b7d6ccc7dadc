//! Logins of one pool.

use std::future::Future;
use std::sync::Arc;

use claviger::Credentials;
use claviger::pool::{LoginError, LoginPermits};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error};

use crate::{OpenConnection, OpenConnections, PgConnect};

/// Logs in with a permit and the current credentials of a pool, which can be replaced. Clones share
/// them.
#[derive(Clone)]
pub struct PermittedLogins {
    connect: Arc<PgConnect>,
    credentials: Arc<Mutex<Arc<Credentials>>>,
    connections: OpenConnections,
    permits: LoginPermits,
}

/// One login that has a permit.
pub struct PermittedLogin {
    connect: Arc<PgConnect>,
    credentials: Arc<Credentials>,
    connection: OpenConnection,
}

impl PermittedLogins {
    pub(super) fn new(
        connect: Arc<PgConnect>,
        credentials: &Credentials,
        permits: LoginPermits,
    ) -> Self {
        Self {
            connect,
            credentials: Arc::new(Mutex::new(Arc::new(credentials.clone()))),
            connections: OpenConnections::default(),
            permits,
        }
    }

    /// Makes the next logins use these credentials.
    pub(super) fn update(&self, credentials: &Credentials) {
        *self.credentials.lock() = Arc::new(credentials.clone());
    }

    /// Returns the connections: busy, idle, being opened, and taken out of the pool.
    pub(super) fn connections(&self) -> &OpenConnections {
        &self.connections
    }

    /// Waits for a permit, and opens a connection by `login`.
    ///
    /// # Errors
    /// The error of the login, or [`LoginError::Closed`] after the pool was replaced or removed.
    ///
    /// # Cancel safety
    /// As [`LoginPermits::log_in`].
    pub async fn log_in<C, E, L>(
        &self,
        login: impl FnOnce(PermittedLogin) -> L + Send,
    ) -> Result<C, LoginError<E>>
    where
        C: Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
        L: Future<Output = Result<C, E>> + Send + 'static,
    {
        let begin = || {
            login(PermittedLogin {
                connect: Arc::clone(&self.connect),
                credentials: Arc::clone(&self.credentials.lock()),
                connection: self.connections.begin(),
            })
        };
        self.permits.log_in(begin).await
    }
}

impl PermittedLogin {
    /// Logs in and calls the hook. The task owns the connection until the client is dropped.
    ///
    /// # Errors
    /// As [`PgConnect::connect`].
    ///
    /// # Cancel safety
    /// As [`PgConnect::connect`].
    pub async fn connect(self) -> Result<(Client, JoinHandle<()>), Error> {
        self.connect
            .connect_with(&self.credentials, self.connection)
            .await
    }
}
