//! The trait that a kind of pool implements.

use std::error::Error as StdError;
use std::fmt::Debug;
use std::future::{Future, ready};
use std::time::Duration;

use super::checks::Taken;
use super::login_permits::LoginPermits;
use super::own_calls;
use super::settings::PoolSettings;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::lease::Lease;

/// Verifies leases, and opens, updates and drains one kind of pool.
///
/// Its code runs in tasks of the library, where a panic counts as one failed attempt. No lock of
/// the library is held while a method runs, so it may read the status or lock a mutex of its own.
///
/// Anything with credentials can be a pool: here clients of an HTTP API, whose token rotates.
///
/// ```
/// use std::time::Duration;
///
/// use claviger::{Lease, Revision, Supervisor, provider_fn};
/// use claviger::error::{ConnectError, ProviderError};
/// use claviger::pool::{AcquireError, LoginPermits, PoolFactory, PoolSettings, Taken};
///
/// #[derive(Clone)]
/// struct Client {
///     token: String,
/// }
///
/// #[derive(Debug)]
/// enum ClientError {
///     TimedOut,
///     Closed,
///     Rejected(ConnectError),
/// }
/// # impl std::fmt::Display for ClientError {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
/// #         write!(f, "{self:?}")
/// #     }
/// # }
/// # impl std::error::Error for ClientError {}
///
/// #[derive(Debug)]
/// struct Clients;
///
/// impl PoolFactory for Clients {
///     type Secret = String;
///     type Pool = Option<Client>;
///     type Connection = Client;
///     type Error = ClientError;
///
///     fn settings(&self) -> PoolSettings {
///         PoolSettings::new(1)
///     }
///     fn vacant(&self) -> Option<Client> {
///         None
///     }
///     async fn verify(&self, _token: &String) -> Result<(), ConnectError> {
///         // A request with this token: 401 is `ConnectErrorKind::Rejected`.
///         Ok(())
///     }
///     fn open(&self, token: &String, _: LoginPermits) -> Result<Option<Client>, ConnectError> {
///         Ok(Some(Client { token: token.clone() }))
///     }
///     async fn drain(&self, _: Option<Client>) {}
///     fn connections(&self, _: &Option<Client>) -> u32 {
///         0
///     }
///     fn idle(&self, pool: &Option<Client>) -> u32 {
///         pool.iter().count() as u32
///     }
///     fn try_get(&self, pool: &Option<Client>) -> Option<Taken<Client>> {
///         pool.clone().map(Taken::from)
///     }
///     async fn get(&self, pool: &Option<Client>) -> Result<Taken<Client>, ClientError> {
///         pool.clone().map(Taken::from).ok_or(ClientError::Closed)
///     }
///     fn error(&self, error: AcquireError<'_>) -> ClientError {
///         match error {
///             AcquireError::Connect(error) => ClientError::Rejected(error.clone()),
///             AcquireError::Closed => ClientError::Closed,
///             _ => ClientError::TimedOut,
///         }
///     }
/// }
///
/// #[tokio::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let supervisor = Supervisor::start();
///     let token = provider_fn(|_| async {
///         Ok::<_, ProviderError>(Lease::new("token-1".to_owned(), Revision::new("1")))
///     });
///     let token = supervisor.add_provider("api-token", token).await?;
///     let api = supervisor.add_pool("api", &token, Clients).await?;
///     assert_eq!(api.get().await?.token, "token-1");
///     supervisor.shutdown(Duration::from_secs(1)).await;
///     Ok(())
/// }
/// ```
pub trait PoolFactory: Debug + Send + Sync + 'static {
    /// Secret of a lease.
    type Secret: Send + Sync + 'static;
    /// The pool; clones lead to the same connections.
    type Pool: Clone + Send + Sync + 'static;
    /// A connection, as the pool hands it out.
    type Connection: Send + 'static;
    /// Error of a call on a handle.
    type Error: StdError + Send + Sync + 'static;

    /// Returns the sizes and deadlines.
    fn settings(&self) -> PoolSettings;

    /// Rejects a lease that is invalid for this pool, before anything connects. Default: accepts
    /// every lease.
    ///
    /// # Errors
    /// [`ConnectErrorKind::Misconfigured`], naming the field and a valid value.
    fn check(&self, lease: &Lease<Self::Secret>) -> Result<(), ConnectError> {
        let _ = lease;
        Ok(())
    }

    /// Returns a closed pool, for a handle before its first lease is verified.
    fn vacant(&self) -> Self::Pool;

    /// Logs in without a pool, probes the connection and closes it. Pools retry, and lose the cause
    /// of an error.
    ///
    /// # Errors
    /// The database's error. Only [`ConnectErrorKind::Rejected`] may cause a fetch.
    ///
    /// # Cancel safety
    /// Dropped when it takes longer than the verify deadline (default 5 s).
    fn verify(
        &self,
        secret: &Self::Secret,
    ) -> impl Future<Output = Result<(), ConnectError>> + Send;

    /// Opens one connection as a new pool for this secret would, and closes it. Verifies
    /// requirements beyond a login, such as hooks, if none is opened before publication. Default:
    /// verifies nothing.
    ///
    /// `within` is the verify deadline (default 5 s). A factory with a timeout of its own makes it
    /// shorter, so that it can name the cause.
    ///
    /// # Errors
    /// The error of the connection.
    ///
    /// # Cancel safety
    /// Dropped after `within`.
    fn verify_as_pool(
        &self,
        secret: &Self::Secret,
        within: Duration,
    ) -> impl Future<Output = Result<(), ConnectError>> + Send {
        let _ = (secret, within);
        async { Ok(()) }
    }

    /// Returns the database user of this secret and its server. Failed logins are counted for each,
    /// so that no account is locked. Default: one account for all secrets.
    fn account(&self, secret: &Self::Secret) -> String {
        let _ = secret;
        String::new()
    }

    /// Returns the server that this secret connects to. Connections of old generations count for
    /// the overlap only if they are to the same server. Default: one server for all secrets.
    fn server(&self, secret: &Self::Secret) -> String {
        let _ = secret;
        String::new()
    }

    /// Adds details of this secret to an error: its user and server, and hints. Default: adds
    /// nothing.
    fn explain(&self, secret: &Self::Secret, error: ConnectError) -> ConnectError {
        let _ = secret;
        error
    }

    /// Closes one connection of the current pool that no caller uses, to make room for a login
    /// before a handover. If all are in use, it may wait for the next one. Returns whether one was
    /// closed.
    ///
    /// Called when the server or the user is at its limit, if the login is to the same
    /// [`server`](Self::server). After a connection was closed, the method is not called for 15 s,
    /// because another client may take the place.
    ///
    /// Default: with [a queue of its own](PoolSettings::own_queue), closes an idle connection by
    /// [`try_get`](Self::try_get) and [`discard`](Self::discard), or the next one that is returned
    /// within a second. Otherwise closes none.
    ///
    /// # Cancel safety
    /// Dropped when it takes longer than the verification may.
    fn make_room(&self, pool: &Self::Pool) -> impl Future<Output = bool> + Send {
        async { self.settings().own_queue && own_calls::make_room(self, pool).await }
    }

    /// Creates a pool for this secret, and opens no connection. A pool with
    /// [a queue of its own](PoolSettings::own_queue) keeps `logins` for each of its logins.
    ///
    /// # Errors
    /// The secret cannot be used at all.
    fn open(&self, secret: &Self::Secret, logins: LoginPermits)
    -> Result<Self::Pool, ConnectError>;

    /// Opens connections until the pool has `connections` of them. Returns how many it has.
    /// `within` is the same as in [`verify_as_pool`](Self::verify_as_pool).
    ///
    /// Default: with [a queue of its own](PoolSettings::own_queue), opens them concurrently by
    /// [`get`](Self::get). Otherwise opens none.
    ///
    /// # Errors
    /// The error of a connection that could not be opened; a rejection if there is one.
    ///
    /// # Cancel safety
    /// Dropped after `within`.
    fn warm(
        &self,
        pool: &Self::Pool,
        connections: u32,
        within: Duration,
    ) -> impl Future<Output = Result<u32, ConnectError>> + Send {
        async move {
            if self.settings().own_queue {
                own_calls::warm(self, pool, connections, within).await
            } else {
                Ok(self.connections(pool))
            }
        }
    }

    /// Makes the pool log in with `new` from now on, and keeps its connections. Returns `false`,
    /// and changes nothing, if the pool must be replaced (another host, port or database). Default:
    /// `false`.
    fn update_in_place(&self, pool: &Self::Pool, old: &Self::Secret, new: &Self::Secret) -> bool {
        let _ = (pool, old, new);
        false
    }

    /// Authenticates the open connections again, after [`update_in_place`](Self::update_in_place)
    /// with credentials that were verified. Resolves when each of them has done so, or will be used
    /// for no further call. The old lease is released then. The new generation is published before
    /// that. If open connections are about to end, it is published afterwards. `within` is the
    /// verify deadline (default 5 s). Default: does nothing.
    ///
    /// # Cancel safety
    /// Dropped some time after `within`; the old lease is still released.
    fn reauthenticate(
        &self,
        pool: &Self::Pool,
        within: Duration,
    ) -> impl Future<Output = ()> + Send {
        let _ = (pool, within);
        ready(())
    }

    /// Closes the pool: opens no more connections, closes idle ones at once and busy ones when they
    /// are returned. Resolves when the last has closed.
    ///
    /// # Cancel safety
    /// Not dropped before its runtime ends, however long it takes.
    fn drain(&self, pool: Self::Pool) -> impl Future<Output = ()> + Send;

    /// Returns the number of connections: busy, idle and being opened. A login that waits for a
    /// [permit](LoginPermits) does not count: a full pool gets none.
    fn connections(&self, pool: &Self::Pool) -> u32;

    /// Returns how many of them are idle. Default: 0.
    fn idle(&self, pool: &Self::Pool) -> u32 {
        let _ = pool;
        0
    }

    /// Classifies an error. Other callers get its message and SQLSTATE.
    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        ConnectError::new(ConnectErrorKind::Other, error.to_string())
    }

    /// Classifies the error of a [`Check::Probe`]. Default: as any other.
    fn classify_probe(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        self.classify(error)
    }

    /// Returns an idle connection, without waiting or a login; `None` if there is none.
    fn try_get(&self, pool: &Self::Pool) -> Option<Taken<Self::Connection>>;

    /// Returns an idle connection, or opens one if the pool has room. Otherwise waits for a
    /// returned one.
    ///
    /// # Errors
    /// The pool's own error.
    ///
    /// # Cancel safety
    /// May be dropped while it waits. A login continues for up to 5 s without its caller.
    fn get(
        &self,
        pool: &Self::Pool,
    ) -> impl Future<Output = Result<Taken<Self::Connection>, Self::Error>> + Send;

    /// Verifies that an open connection works. Default: verifies nothing.
    ///
    /// # Errors
    /// The error of the connection, which is then discarded.
    ///
    /// # Cancel safety
    /// Dropped at the caller's deadline; the connection is then discarded. Also dropped with the
    /// call: [`PoolSettings::reuses_cancelled`] then decides whether the connection is reused.
    fn check_connection(
        &self,
        connection: &mut Self::Connection,
        check: Check,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = (connection, check);
        ready(Ok(()))
    }

    /// Closes a connection instead of returning it to its pool, and frees its place. Default: drops
    /// it.
    fn discard(&self, connection: Self::Connection) {
        drop(connection);
    }

    /// Returns a connection to its pool. Resolves when it is available again. Default: drops it.
    ///
    /// # Cancel safety
    /// Dropped after 10 s; the connection is then closed.
    fn give_back(&self, connection: Self::Connection) -> impl Future<Output = ()> + Send {
        drop(connection);
        async {}
    }

    /// Returns whether this is the pool's own timeout of a wait for a connection. Default:
    /// `false`.
    fn is_timeout(&self, error: &Self::Error) -> bool {
        let _ = error;
        false
    }

    /// Returns whether this is the error of a closed pool. Default: `false`.
    fn is_closed(&self, error: &Self::Error) -> bool {
        let _ = error;
        false
    }

    /// Converts an error of the library into one of the pool.
    fn error(&self, error: AcquireError<'_>) -> Self::Error;
}

/// Check of an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Check {
    /// The server responds.
    Ping,
    /// The role still exists. Connections of a dropped role may still respond to pings.
    Probe,
}

/// Reason why a handle has no connection for a caller.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum AcquireError<'e> {
    /// The call's deadline has passed.
    TimedOut,
    /// The pool was removed or shut down.
    Closed,
    /// The error that all waiting callers share.
    Connect(&'e ConnectError),
}
