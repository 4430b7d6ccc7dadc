//! A manager that logs in with permits and hands errors to callers.

use std::any::Any;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bb8::ManageConnection;
use claviger::Credentials;
use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::{Check, LoginError, LoginPermits};
use claviger_tokio_postgres::{CallError, OpenConnection, OpenConnections};
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::managers::ManagerFactory;
use crate::waiting::Waiting;

type ConnectionOf<F> = <<F as ManagerFactory>::Manager as ManageConnection>::Connection;

/// bb8's manager of a pool whose credentials rotate. Clones share their state.
pub struct PermittedManager<F: ManagerFactory> {
    shared: Arc<Shared<F>>,
}

struct Shared<F: ManagerFactory> {
    factory: Arc<F>,
    /// The manager of the current credentials.
    current: Mutex<Arc<F::Manager>>,
    logins: LoginPermits,
    connections: OpenConnections,
    /// A place for each connection that the pool may open. Callers get them in the order of their
    /// calls. bb8 gives a returned connection to the first caller that requests one, maybe the one
    /// that has just returned it. Once these are closed, returned connections are closed, too.
    places: Arc<Semaphore>,
    waiting: Waiting,
}

/// A caller's place in the pool, until dropped.
pub(crate) type Place = OwnedSemaphorePermit;

impl<F: ManagerFactory> PermittedManager<F> {
    pub(crate) fn new(
        factory: Arc<F>,
        credentials: &Credentials,
        max_connections: u32,
        logins: LoginPermits,
    ) -> Result<Self, ConnectError> {
        let manager = factory.manager(credentials)?;
        let places = usize::try_from(max_connections).unwrap_or(usize::MAX);
        Ok(Self {
            shared: Arc::new(Shared {
                factory,
                current: Mutex::new(Arc::new(manager)),
                logins,
                connections: OpenConnections::default(),
                places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
                waiting: Waiting::default(),
            }),
        })
    }

    /// Makes the next logins use these credentials.
    pub(crate) fn update(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        let manager = self.shared.factory.manager(credentials)?;
        *self.shared.current.lock() = Arc::new(manager);
        Ok(())
    }

    /// Closes connections that are returned from now on, and opens no more.
    pub(crate) fn close(&self) {
        self.shared.places.close();
    }

    fn is_closed(&self) -> bool {
        self.shared.places.is_closed()
    }

    /// Waits for a place in the pool.
    pub(crate) async fn place(&self) -> Result<Place, CallError> {
        let places = Arc::clone(&self.shared.places);
        let place = places.acquire_owned().await;
        place.map_err(|_| CallError::Closed)
    }

    /// Returns a place if one is free.
    pub(crate) fn free_place(&self) -> Option<Place> {
        Arc::clone(&self.shared.places).try_acquire_owned().ok()
    }

    /// Returns the connections: busy, idle, being opened, and closing.
    pub(crate) fn connections(&self) -> &OpenConnections {
        &self.shared.connections
    }

    /// Returns the callers that wait, and their logins.
    pub(crate) fn waiting(&self) -> &Waiting {
        &self.shared.waiting
    }

    /// Logs in with the current credentials and a permit.
    async fn log_in(&self) -> Result<Managed<F>, CallError> {
        if self.is_closed() {
            return Err(CallError::Closed);
        }
        let shared = &self.shared;
        let login = || {
            let (factory, manager) = (Arc::clone(&shared.factory), shared.current());
            let guard = shared.connections.begin();
            async move { factory.connect(&manager, guard).await }
        };
        // bb8 would lose the connection's place in a panic.
        let ended = AssertUnwindSafe(shared.logins.log_in(login)).catch_unwind();
        match ended.await {
            Ok(Ok(_)) if shared.places.is_closed() => Err(CallError::Closed),
            Ok(Ok((connection, guard))) => Ok(Managed {
                connection,
                pool: Arc::clone(shared),
                is_discarded: false,
                idle_since: None,
                place: None,
                _guard: guard,
            }),
            Ok(Err(LoginError::Failed(error))) => Err(CallError::Connect(
                shared.factory.classify(&error).with_source(error),
            )),
            Ok(Err(_)) => Err(CallError::Closed),
            Err(panic) => Err(CallError::Connect(panicked(panic))),
        }
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> ConnectError {
    // It may contain a secret.
    drop(panic);
    let message = "the login panicked; see the panic message";
    ConnectError::new(ConnectErrorKind::Other, message)
}

impl<F: ManagerFactory> ManageConnection for PermittedManager<F> {
    type Connection = Managed<F>;
    type Error = CallError;

    /// Gives the error of a login to one caller. Logs in again while a caller has no login.
    async fn connect(&self) -> Result<Self::Connection, CallError> {
        let mut login = self.shared.waiting.login();
        loop {
            let error = match self.log_in().await {
                Err(error @ (CallError::Connect(_) | CallError::Closed)) => error,
                ended => return ended,
            };
            match login.failed(&error) {
                Some(again) => login = again,
                None => return Err(error),
            }
        }
    }

    async fn is_valid(&self, connection: &mut Self::Connection) -> Result<(), CallError> {
        connection.check(Check::Ping).await
    }

    /// bb8 calls this when a connection is returned.
    fn has_broken(&self, connection: &mut Self::Connection) -> bool {
        connection.idle_since = Some(Instant::now());
        connection.place = None;
        connection.is_discarded || self.shared.places.is_closed() || connection.is_broken()
    }
}

impl<F: ManagerFactory> Clone for PermittedManager<F> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<F: ManagerFactory> fmt::Debug for PermittedManager<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermittedManager")
            .field("factory", &self.shared.factory)
            .finish_non_exhaustive()
    }
}

/// A connection in a pool of bb8. It dereferences to the manager's own.
pub struct Managed<F: ManagerFactory> {
    connection: ConnectionOf<F>,
    pool: Arc<Shared<F>>,
    is_discarded: bool,
    /// When it was opened or returned.
    /// `None` before the first return.
    idle_since: Option<Instant>,
    /// Place of the caller that uses it.
    place: Option<Place>,
    _guard: Option<OpenConnection>,
}

impl<F: ManagerFactory> Managed<F> {
    /// Returns whether the driver reports the connection as unusable.
    pub(crate) fn is_broken(&mut self) -> bool {
        self.pool.current().has_broken(&mut self.connection)
    }

    /// Verifies that the connection works.
    pub(crate) async fn check(&mut self, check: Check) -> Result<(), CallError> {
        let (factory, manager) = (&self.pool.factory, self.pool.current());
        let checked = factory.check_connection(&manager, &mut self.connection, check);
        checked.await.map_err(|error| {
            let classified = match check {
                Check::Probe => factory.classify_probe(&error),
                _ => factory.classify(&error),
            };
            CallError::Connect(classified.with_source(error))
        })
    }

    pub(crate) fn idle_for(&self) -> Duration {
        self.idle_since
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Keeps the caller's place until the connection is returned.
    pub(crate) fn keep(&mut self, place: Option<Place>) {
        self.place = place;
    }

    pub(crate) fn discard(&mut self) {
        self.is_discarded = true;
    }
}

impl<F: ManagerFactory> Shared<F> {
    fn current(&self) -> Arc<F::Manager> {
        Arc::clone(&self.current.lock())
    }
}

impl<F: ManagerFactory> Deref for Managed<F> {
    type Target = ConnectionOf<F>;

    fn deref(&self) -> &Self::Target {
        &self.connection
    }
}

impl<F: ManagerFactory> DerefMut for Managed<F> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.connection
    }
}

impl<F: ManagerFactory> fmt::Debug for Managed<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Managed").finish_non_exhaustive()
    }
}
