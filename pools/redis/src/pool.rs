//! One connection for all callers, opened when the first of them needs it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use claviger::Credentials;
use claviger::pool::{LoginError, LoginPermits};
use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::timeout;

use crate::Error;
use crate::address::Logins;
use crate::classify::login_error;
use crate::connection::{Open, RedisConnection, State};
use crate::credentials::Verified;
use crate::kind::Kind;

/// The pool of a [`Handle`](claviger::Handle): one connection that all callers share.
pub struct RedisPool<K: Kind = crate::Multiplexed> {
    /// `None` before the first lease is verified.
    pub(crate) shared: Option<Arc<Shared<K>>>,
}

impl<K: Kind> Clone for RedisPool<K> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<K: Kind> fmt::Debug for RedisPool<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisPool")
            .field("kind", &K::NAME)
            .field("open", &self.shared.as_ref().map(|pool| pool.connections()))
            .finish()
    }
}

pub(crate) struct Shared<K: Kind> {
    logins: Logins,
    permits: LoginPermits,
    pub(crate) verified: Verified,
    current: Mutex<Current<K>>,
    /// Locked by the caller that logs in; the others queue for its connection.
    login: Arc<tokio::sync::Mutex<()>>,
    attempts: Mutex<Attempts>,
    /// Number of connections that are open, those of old guards included.
    open: watch::Sender<u32>,
}

struct Current<K: Kind> {
    connection: Option<RedisConnection<K>>,
    /// Whether the pool drains.
    is_closed: bool,
}

/// The logins so far.
#[derive(Default)]
struct Attempts {
    /// How many have begun.
    begun: u64,
    /// The last that failed: its number, the version of the credentials, and its error.
    failed: Option<(u64, u64, Error)>,
}

impl<K: Kind> Shared<K> {
    pub(crate) fn new(logins: Logins, permits: LoginPermits, credentials: Credentials) -> Self {
        Self {
            logins,
            verified: Verified::new(credentials, permits.clone()),
            permits,
            current: Mutex::new(Current {
                connection: None,
                is_closed: false,
            }),
            login: Arc::default(),
            attempts: Mutex::default(),
            open: watch::Sender::new(0),
        }
    }

    /// Returns the open connection, unless it is known or suspected to be broken.
    pub(crate) fn try_get(&self) -> Option<RedisConnection<K>> {
        let current = self.current.lock();
        let usable = |one: &&RedisConnection<K>| one.state.is_usable() && !one.state.is_suspect();
        current.connection.as_ref().filter(usable).cloned()
    }

    /// Returns the open connection, or opens one. Callers that queued when a login began get its
    /// error, because each login to a server that does not respond takes until its timeout.
    pub(crate) async fn get(self: &Arc<Self>) -> Result<RedisConnection<K>, Error> {
        if let Some(connection) = self.try_get() {
            return Ok(connection);
        }
        let begun = self.attempts.lock().begun;
        let login = Arc::clone(&self.login).lock_owned().await;
        if let Some(connection) = self.try_get() {
            return Ok(connection);
        }
        if let Some(error) = self.failed_after(begun) {
            return Err(error);
        }
        if let Some(connection) = self.still_responds().await {
            return Ok(connection);
        }
        let pool = Arc::clone(self);
        match self.permits.log_in(move || pool.log_in(login)).await {
            Ok(connection) => Ok(connection),
            Err(LoginError::Failed(error)) => Err(error),
            // The pool was replaced or removed. Callers of the handle no longer use it.
            Err(_) => Err(Error::Closed),
        }
    }

    /// Returns the error of the last failed login, if more than `begun` logins had begun with it, and
    /// its credentials are still the current ones.
    fn failed_after(&self, begun: u64) -> Option<Error> {
        let current = self.verified.current().number;
        let failed = self.attempts.lock().failed.clone();
        failed
            .filter(|(number, version, _)| *number > begun && *version == current)
            .map(|(.., error)| error)
    }

    /// Logs in, and shares the connection even if the caller was cancelled meanwhile.
    async fn log_in(
        self: Arc<Self>,
        _login: OwnedMutexGuard<()>,
    ) -> Result<RedisConnection<K>, Error> {
        let version = self.verified.current();
        let number = {
            let mut attempts = self.attempts.lock();
            attempts.begun += 1;
            attempts.begun
        };
        let state = Arc::<State>::default();
        let open = Open::new(self.open.clone());
        let connecting = K::connect(
            self.logins.clone(),
            self.verified.clone(),
            Arc::clone(&state),
        );
        let connection = connecting.await.map_err(|error| {
            let error = Error::Connect(login_error(error, &version.credentials));
            self.attempts.lock().failed = Some((number, version.number, error.clone()));
            error
        })?;
        let connection: RedisConnection<K> = RedisConnection {
            connection,
            state,
            open,
        };
        let mut current = self.current.lock();
        if current.is_closed {
            return Err(Error::Closed);
        }
        current.connection = Some(connection.clone());
        Ok(connection)
    }

    /// Returns the open connection if it is suspected to be broken, and `PING` has a response.
    /// Waits for it no longer than a login takes, because commands may have no timeout.
    async fn still_responds(&self) -> Option<RedisConnection<K>> {
        let mut connection = {
            let current = self.current.lock();
            let usable = |one: &&RedisConnection<K>| one.state.is_usable();
            current.connection.as_ref().filter(usable).cloned()?
        };
        let pinged = timeout(self.logins.connection_timeout, ping(&mut connection)).await;
        if !matches!(pinged, Ok(Ok(()))) {
            connection.state.note_broken();
            return None;
        }
        Some(connection)
    }

    /// Waits until the open connection has authenticated with the current credentials. One that
    /// does not in time is used for no further call.
    pub(crate) async fn authenticate_again(&self, within: Duration) {
        let version = self.verified.current().number;
        let Some(connection) = self.current.lock().connection.clone() else {
            return;
        };
        let reached = timeout(within, connection.state.reach(version)).await;
        if reached != Ok(true) {
            tracing::warn!(
                server = %self.logins.server(),
                "open connection did not authenticate again; it is replaced"
            );
            connection.state.note_broken();
        }
    }

    /// Opens no more connections, and resolves when the last guard is dropped.
    pub(crate) async fn drain(&self) {
        let last = {
            let mut current = self.current.lock();
            current.is_closed = true;
            current.connection.take()
        };
        drop(last);
        let mut open = self.open.subscribe();
        // Fails only without a sender, which this value owns.
        let _ = open.wait_for(|open| *open == 0).await;
    }

    /// Returns the number of connections: all open ones of a pool that drains, else the one that
    /// callers can use.
    pub(crate) fn connections(&self) -> u32 {
        let current = self.current.lock();
        if current.is_closed {
            return *self.open.borrow();
        }
        let is_usable = |one: &RedisConnection<K>| one.state.is_usable();
        u32::from(current.connection.as_ref().is_some_and(is_usable))
    }
}

/// Sends `PING`. A response clears the suspicion that the connection is broken.
pub(crate) async fn ping<K: Kind>(connection: &mut RedisConnection<K>) -> redis::RedisResult<()> {
    redis::cmd("PING").exec_async(connection).await?;
    connection.state.note_response();
    Ok(())
}
