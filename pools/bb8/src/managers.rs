//! The trait that makes bb8's managers from credentials.

use std::error::Error as StdError;
use std::fmt::Debug;
use std::future::Future;

use bb8::ManageConnection;
use claviger::error::ConnectError;
use claviger::pool::Check;
use claviger::{Credentials, Lease};
use claviger_tokio_postgres::OpenConnection;
use tokio::task::yield_now;

/// Makes bb8's managers, one for each credential.
///
/// [`PgConnect`](crate::PgConnect) and [`PgManagers`](crate::PgManagers) make those for PostgreSQL.
/// For another database, two methods are required:
///
/// ```
/// use std::error::Error as StdError;
/// use std::io;
///
/// use claviger::Credentials;
/// use claviger::error::{ConnectError, ConnectErrorKind};
/// use claviger_bb8::{Bb8Pools, ManagerFactory};
/// use claviger_bb8::bb8::ManageConnection;
///
/// struct Logins(Credentials);
///
/// impl ManageConnection for Logins {
///     type Connection = String;
///     type Error = io::Error;
///
///     async fn connect(&self) -> Result<String, io::Error> {
///         Ok(format!("a connection of {}", self.0.user()))
///     }
///     async fn is_valid(&self, _: &mut String) -> Result<(), io::Error> {
///         Ok(())
///     }
///     fn has_broken(&self, _: &mut String) -> bool {
///         false
///     }
/// }
///
/// #[derive(Debug)]
/// struct MyDatabase;
///
/// impl ManagerFactory for MyDatabase {
///     type Manager = Logins;
///
///     fn manager(&self, credentials: &Credentials) -> Result<Logins, ConnectError> {
///         Ok(Logins(credentials.clone()))
///     }
///     fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
///         // Only `Rejected` causes a fetch of newer credentials.
///         let rejected = error
///             .downcast_ref::<io::Error>()
///             .is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
///         let kind = if rejected { ConnectErrorKind::Rejected } else { ConnectErrorKind::Other };
///         ConnectError::new(kind, error.to_string())
///     }
/// }
///
/// let pools = Bb8Pools::new(MyDatabase, 10);
/// # drop(pools);
/// ```
pub trait ManagerFactory: Debug + Send + Sync + 'static {
    /// bb8's manager.
    type Manager: ManageConnection<Error: StdError + Send + Sync>;

    /// Creates a manager that logs in with these credentials. Connects to nothing.
    ///
    /// # Errors
    /// The credentials cannot be used at all.
    fn manager(&self, credentials: &Credentials) -> Result<Self::Manager, ConnectError>;

    /// Returns the kind of an error of the manager.
    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError;

    /// Returns the kind of an error of a [`Check::Probe`]. Default: as of any other.
    fn classify_probe(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        self.classify(error)
    }

    /// Rejects a lease that is invalid, before anything connects. Default: rejects one from which
    /// no manager can be made.
    ///
    /// # Errors
    /// [`ConnectErrorKind::Misconfigured`](claviger::error::ConnectErrorKind::Misconfigured),
    /// naming the field and a valid value.
    fn check(&self, lease: &Lease<Credentials>) -> Result<(), ConnectError> {
        self.manager(lease.secret()).map(drop)
    }

    /// Opens one connection without a pool, probes and closes it. Default: by the manager and
    /// [`check_connection`](Self::check_connection), in the caller's task. If a login may compute
    /// for long, do both in a [`Verifier`](claviger::pool::Verifier).
    ///
    /// # Errors
    /// The error of the login or of the probe.
    ///
    /// # Cancel safety
    /// May be dropped.
    fn verify(
        &self,
        credentials: &Credentials,
    ) -> impl Future<Output = Result<(), ConnectError>> + Send {
        log_in_and_probe(self, credentials)
    }

    /// Opens a connection. `guard` counts it. The guard is returned with the connection, or dropped
    /// once the connection has closed. Default: by the manager; the connection counts until it is
    /// dropped.
    ///
    /// # Errors
    /// The manager's error.
    ///
    /// # Cancel safety
    /// May be dropped; the connection is then closed.
    fn connect(
        &self,
        manager: &Self::Manager,
        guard: OpenConnection,
    ) -> impl Future<Output = ConnectResult<Self::Manager>> + Send {
        async move { Ok((manager.connect().await?, Some(guard))) }
    }

    /// Verifies that an open connection works. Default: by [`ManageConnection::is_valid`].
    ///
    /// # Errors
    /// The manager's error.
    ///
    /// # Cancel safety
    /// As that of `is_valid`.
    fn check_connection(
        &self,
        manager: &Self::Manager,
        connection: &mut <Self::Manager as ManageConnection>::Connection,
        check: Check,
    ) -> impl Future<Output = Result<(), <Self::Manager as ManageConnection>::Error>> + Send {
        let _ = check;
        manager.is_valid(connection)
    }

    /// Returns whether a connection can be used again after its check was cancelled. If not, it is
    /// closed. Default: `false`, because a late response could be read as that of the next
    /// statement.
    fn reuses_cancelled(&self) -> bool {
        false
    }

    /// Returns the database user of these credentials and its server. Failed logins are counted
    /// for each. Default: the user.
    fn account(&self, credentials: &Credentials) -> String {
        credentials.user().to_owned()
    }

    /// Returns the server that these credentials connect to. Default: one server for all.
    fn server(&self, credentials: &Credentials) -> String {
        let _ = credentials;
        String::new()
    }

    /// Adds details of these credentials to an error: their user and server, and hints. Default:
    /// adds nothing.
    fn explain(&self, credentials: &Credentials, error: ConnectError) -> ConnectError {
        let _ = credentials;
        error
    }
}

/// A connection and its guard, or the manager's error.
pub type ConnectResult<M> = Result<
    (<M as ManageConnection>::Connection, Option<OpenConnection>),
    <M as ManageConnection>::Error,
>;

/// Logs in by a manager, probes the connection and logs out.
pub(crate) async fn log_in_and_probe<F: ManagerFactory + ?Sized>(
    factory: &F,
    credentials: &Credentials,
) -> Result<(), ConnectError> {
    let manager = factory.manager(credentials)?;
    let connected = manager.connect().await;
    let mut connection = connected.map_err(|error| factory.classify(&error).with_source(error))?;
    let probed = factory.check_connection(&manager, &mut connection, Check::Probe);
    let probed = probed.await;
    // A task of the driver logs out before the runtime ends.
    drop(connection);
    yield_now().await;
    probed.map_err(|error| factory.classify_probe(&error).with_source(error))
}
