//! Managers for PostgreSQL.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bb8::ManageConnection;
use claviger::error::ConnectError;
use claviger::pool::{Check, Verifier, check_credentials};
use claviger::{Credentials, Lease};
use claviger_tokio_postgres::{OpenConnection, PROBE_SQL, PgConnect, classify, classify_probe};
use tokio_postgres::{Client, Error};

use crate::managers::{ConnectResult, ManagerFactory, log_in_and_probe};

/// A manager that logs in by [`PgConnect`].
#[derive(Debug)]
pub struct PgManager {
    connect: PgConnect,
    credentials: Credentials,
}

impl ManageConnection for PgManager {
    type Connection = Client;
    type Error = Error;

    async fn connect(&self) -> Result<Client, Error> {
        let (client, _task) = self.connect.connect(&self.credentials).await?;
        Ok(client)
    }

    async fn is_valid(&self, client: &mut Client) -> Result<(), Error> {
        self.connect.check_connection(client, Check::Ping).await
    }

    fn has_broken(&self, client: &mut Client) -> bool {
        client.is_closed()
    }
}

impl ManagerFactory for PgConnect {
    type Manager = PgManager;

    fn manager(&self, credentials: &Credentials) -> Result<PgManager, ConnectError> {
        Ok(PgManager {
            connect: self.clone(),
            credentials: credentials.clone(),
        })
    }

    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        classify(error)
    }

    fn classify_probe(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        classify_probe(error)
    }

    fn check(&self, lease: &Lease<Credentials>) -> Result<(), ConnectError> {
        self.check_lease(lease)
    }

    fn verify(
        &self,
        credentials: &Credentials,
    ) -> impl Future<Output = Result<(), ConnectError>> + Send {
        PgConnect::verify(self, credentials)
    }

    /// The connection counts until its socket is closed.
    async fn connect(
        &self,
        manager: &PgManager,
        guard: OpenConnection,
    ) -> ConnectResult<PgManager> {
        let connecting = self.connect_with(&manager.credentials, guard);
        let (client, _task) = connecting.await?;
        Ok((client, None))
    }

    fn check_connection(
        &self,
        _: &PgManager,
        client: &mut Client,
        check: Check,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        PgConnect::check_connection(self, client, check)
    }

    /// The driver reads the response of a check that was cancelled.
    fn reuses_cancelled(&self) -> bool {
        true
    }

    fn account(&self, credentials: &Credentials) -> String {
        PgConnect::account(self, credentials)
    }

    fn server(&self, credentials: &Credentials) -> String {
        PgConnect::server(self, credentials)
    }

    fn explain(&self, credentials: &Credentials, error: ConnectError) -> ConnectError {
        PgConnect::explain(self, credentials, error)
    }
}

/// Managers of tokio-postgres that a function makes, such as bb8-postgres's
/// `PostgresConnectionManager`.
///
/// TLS is the function's own. Bearer tokens are rejected, because they could be sent without
/// verified TLS. [`PgConnect`] accepts them, and its errors name the server.
///
/// ```
/// use bb8_postgres::PostgresConnectionManager;
/// use claviger::Credentials;
/// use claviger_bb8::tokio_postgres::{Config, NoTls};
/// use claviger_bb8::{Bb8Pools, PgManagers};
///
/// let mut config = Config::new();
/// config.host("/run/postgresql").dbname("orders");
/// let managers = PgManagers::new(move |credentials: &Credentials| {
///     let mut config = config.clone();
///     config.user(credentials.user()).password(credentials.expose_password());
///     PostgresConnectionManager::new(config, NoTls)
/// });
/// let pools = Bb8Pools::new(managers, 10);
/// # drop(pools);
/// ```
pub struct PgManagers<F> {
    make: Arc<F>,
    verifier: Verifier,
}

impl<F, M> PgManagers<F>
where
    F: Fn(&Credentials) -> M + Send + Sync + 'static,
    M: ManageConnection<Connection = Client, Error = Error>,
{
    /// Creates a factory of the managers that `make` returns.
    ///
    /// In a verification, the manager logs in on a thread and a runtime of its own, which end with
    /// it.
    pub fn new(make: F) -> Self {
        Self {
            make: Arc::new(make),
            verifier: Verifier::default(),
        }
    }
}

impl<F> Clone for PgManagers<F> {
    fn clone(&self) -> Self {
        Self {
            make: Arc::clone(&self.make),
            verifier: self.verifier.clone(),
        }
    }
}

impl<F, M> ManagerFactory for PgManagers<F>
where
    F: Fn(&Credentials) -> M + Send + Sync + 'static,
    M: ManageConnection<Connection = Client, Error = Error>,
{
    type Manager = M;

    fn manager(&self, credentials: &Credentials) -> Result<M, ConnectError> {
        Ok((self.make)(credentials))
    }

    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        classify(error)
    }

    fn classify_probe(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        classify_probe(error)
    }

    fn check(&self, lease: &Lease<Credentials>) -> Result<(), ConnectError> {
        let credentials = lease.secret();
        check_credentials(credentials, "PostgreSQL")?;
        if credentials.is_token() {
            return Err(ConnectError::misconfigured(
                "managers",
                "a token could be sent without verified TLS; use PgConnect",
            ));
        }
        Ok(())
    }

    /// The driver reads the response of a check that was cancelled.
    fn reuses_cancelled(&self) -> bool {
        true
    }

    /// Verifies on a thread of its own, because a hostile server determines how long a login
    /// computes.
    async fn verify(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        let (managers, own) = (self.clone(), credentials.clone());
        let verified = self
            .verifier
            .run(async move { log_in_and_probe(&managers, &own).await });
        verified.await
    }

    async fn check_connection(
        &self,
        manager: &M,
        client: &mut Client,
        check: Check,
    ) -> Result<(), Error> {
        match check {
            Check::Probe => client.batch_execute(PROBE_SQL).await,
            _ => manager.is_valid(client).await,
        }
    }
}

impl<F> fmt::Debug for PgManagers<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgManagers").finish_non_exhaustive()
    }
}
