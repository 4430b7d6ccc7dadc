//! A pool in memory.

use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use claviger::Credentials;
use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::{LoginError, LoginPermits};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::sleep;

use super::defect::Defect;
use super::memory_server::{MemoryServer, Socket};

#[derive(Debug)]
pub(crate) enum MemoryError {
    Connect(ConnectError),
    TimedOut,
    Closed,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.fmt(f),
            Self::TimedOut => f.write_str("timed out while waiting for a connection"),
            Self::Closed => f.write_str("the pool is closed"),
        }
    }
}

impl std::error::Error for MemoryError {}

struct Inner {
    server: MemoryServer,
    credentials: Mutex<Credentials>,
    idle: Mutex<Vec<Arc<Socket>>>,
    /// All sockets. They authenticate again, and a defective pool cuts them.
    open: Mutex<Vec<Weak<Socket>>>,
    /// Connections of a defective pool that was closed.
    left_open: Mutex<Vec<Arc<Socket>>>,
    /// One place for each connection. Its waiters are the queue.
    places: Arc<Semaphore>,
    max: u32,
    closed: AtomicBool,
    logins: Option<LoginPermits>,
    used_permit: AtomicBool,
    /// Logins that wait for a permit.
    waiting: AtomicU32,
    defect: Option<Defect>,
    hangs: bool,
    wrong_count: AtomicU32,
}

/// Clones share one pool.
#[derive(Clone)]
pub(crate) struct MemoryPool(Arc<Inner>);

impl MemoryPool {
    pub(crate) fn open(
        server: MemoryServer,
        credentials: Credentials,
        max: u32,
        logins: Option<LoginPermits>,
        defect: Option<Defect>,
    ) -> Self {
        Self(Arc::new(Inner {
            server,
            credentials: Mutex::new(credentials),
            idle: Mutex::default(),
            open: Mutex::default(),
            left_open: Mutex::default(),
            places: Arc::new(Semaphore::new(max as usize)),
            max,
            closed: AtomicBool::new(false),
            logins,
            used_permit: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
            defect,
            hangs: false,
            wrong_count: AtomicU32::new(0),
        }))
    }

    pub(crate) fn closed(server: MemoryServer) -> Self {
        let pool = Self::open(server, Credentials::new("", ""), 0, None, None);
        pool.close();
        pool
    }

    pub(crate) fn with_hanging_get(mut self) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.hangs = true;
        }
        self
    }

    pub(crate) fn with_wrong_count(self) -> Self {
        self.0.wrong_count.store(1, Ordering::Release);
        self
    }

    fn has(&self, defect: Defect) -> bool {
        self.0.defect == Some(defect)
    }

    fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.places.close();
    }

    pub(crate) fn close_idle(&self) {
        self.0.idle.lock().clear();
    }

    pub(crate) fn close_one_idle(&self) -> bool {
        self.0.idle.lock().pop().is_some()
    }

    fn sockets(&self) -> Vec<Arc<Socket>> {
        self.0
            .open
            .lock()
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// Cuts all connections, which is a defect.
    pub(crate) fn cut(&self) {
        for socket in self.sockets() {
            socket.cut();
        }
    }

    pub(crate) fn reauthenticate(&self) {
        let credentials = self.0.credentials.lock().clone();
        for socket in self.sockets() {
            // Its next user finds out.
            if socket.authenticate(&credentials).is_err() {
                socket.cut();
            }
        }
    }

    pub(crate) fn set_credentials(&self, credentials: Credentials) {
        *self.0.credentials.lock() = credentials;
    }

    pub(crate) async fn until_returned(&self) {
        while self.busy() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn busy(&self) -> u32 {
        let free = u32::try_from(self.0.places.available_permits()).unwrap_or(u32::MAX);
        let taken = self.0.max.saturating_sub(free);
        let waiting = if self.has(Defect::CountsWaitingLogins) {
            0
        } else {
            self.0.waiting.load(Ordering::Acquire)
        };
        taken.saturating_sub(waiting) + self.0.wrong_count.load(Ordering::Acquire)
    }

    pub(crate) fn idle(&self) -> u32 {
        u32::try_from(self.0.idle.lock().len()).unwrap_or(u32::MAX)
    }

    /// Logs in although no caller requested a connection, which is a defect.
    pub(crate) fn log_in_unrequested(&self) {
        let pool = self.clone();
        tokio::spawn(async move {
            let credentials = pool.0.credentials.lock().clone();
            if let Ok(socket) = pool.log_in_once(Some(&credentials)).await {
                pool.0.idle.lock().push(socket);
            }
        });
    }

    pub(crate) fn try_get(&self) -> Option<MemoryConnection> {
        let place = Arc::clone(&self.0.places).try_acquire_owned().ok()?;
        let socket = self.0.idle.lock().pop()?;
        Some(self.connection(socket, place))
    }

    pub(crate) async fn get(&self) -> Result<MemoryConnection, MemoryError> {
        if self.0.hangs {
            pending::<()>().await;
        }
        if self.has(Defect::FailsWhenFull) && self.0.places.available_permits() == 0 {
            return Err(MemoryError::TimedOut);
        }
        let place = if self.has(Defect::HandedConnectionIsLost) {
            self.handed_place().await
        } else {
            Arc::clone(&self.0.places).acquire_owned().await.ok()
        };
        let place = place.ok_or(MemoryError::Closed)?;
        let idle = self.0.idle.lock().pop();
        if let Some(socket) = idle {
            return Ok(self.connection(socket, place));
        }
        let place = PlaceDuringLogin {
            keep: self.has(Defect::DroppedGetKeepsPlace),
            place: Some(place),
        };
        let socket = self.log_in().await?;
        let place = place.after_login().ok_or(MemoryError::Closed)?;
        if self.is_closed() {
            if self.has(Defect::LoginOutlastsDrain) {
                self.0.left_open.lock().push(socket);
            }
            return Err(MemoryError::Closed);
        }
        Ok(self.connection(socket, place))
    }

    /// Waits for a place in a task of its own, which is a defect: one that was handed to a dropped
    /// call is lost.
    async fn handed_place(&self) -> Option<OwnedSemaphorePermit> {
        let (hand, handed) = oneshot::channel();
        let waiting = Arc::clone(&self.0.places).acquire_owned();
        tokio::spawn(async move {
            let place = waiting.await.ok();
            if !hand.is_closed() {
                let _ = hand.send(PlaceDuringLogin { keep: true, place });
            }
        });
        handed.await.ok()?.after_login()
    }

    async fn log_in(&self) -> Result<Arc<Socket>, MemoryError> {
        let early = self
            .has(Defect::WaitingLoginsKeepCredentials)
            .then(|| self.0.credentials.lock().clone());
        let attempts = match self.0.defect {
            Some(Defect::RetriesRejectedLogins) => 10,
            Some(Defect::RetriesRejectedLoginsTwice) => 3,
            _ => 1,
        };
        let login = {
            let pool = self.clone();
            move || async move {
                let mut result = pool.log_in_once(early.as_ref()).await;
                for _ in 1..attempts {
                    if result.is_err() {
                        result = pool.log_in_once(early.as_ref()).await;
                    }
                }
                result
            }
        };
        let is_permitted = match self.0.defect {
            Some(Defect::NoPermits) => false,
            Some(Defect::OnePermitForAll) => !self.0.used_permit.swap(true, Ordering::AcqRel),
            _ => true,
        };
        match self.0.logins.as_ref().filter(|_| is_permitted) {
            Some(logins) => {
                let waiting = WaitingLogin::new(self.clone());
                let permitted = move || {
                    drop(waiting);
                    login()
                };
                let logged_in = logins.log_in(permitted).await;
                logged_in.map_err(|error| match error {
                    LoginError::Failed(error) => MemoryError::Connect(error),
                    _ => MemoryError::Closed,
                })
            }
            None => login().await.map_err(MemoryError::Connect),
        }
    }

    async fn log_in_once(&self, early: Option<&Credentials>) -> Result<Arc<Socket>, ConnectError> {
        let current = || self.0.credentials.lock().clone();
        let credentials = early.cloned().unwrap_or_else(current);
        let result = self.0.server.log_in(&credentials).await.map(Arc::new);
        if let Ok(socket) = &result {
            let mut open = self.0.open.lock();
            open.retain(|socket| socket.strong_count() > 0);
            open.push(Arc::downgrade(socket));
        }
        result.map_err(|error| {
            if self.has(Defect::ErrorShowsThePassword) {
                let message = format!("login with {} failed", credentials.expose_password());
                let shown = ConnectError::new(error.kind(), message);
                return match error.code() {
                    Some(code) => shown.with_code(code),
                    None => shown,
                };
            }
            error
        })
    }

    fn connection(&self, socket: Arc<Socket>, place: OwnedSemaphorePermit) -> MemoryConnection {
        MemoryConnection {
            socket: Some(socket),
            pool: self.clone(),
            place: Some(place),
        }
    }
}

/// The place of a login. A defective pool does not free it when the login is dropped.
struct PlaceDuringLogin {
    keep: bool,
    place: Option<OwnedSemaphorePermit>,
}

impl PlaceDuringLogin {
    fn after_login(mut self) -> Option<OwnedSemaphorePermit> {
        self.place.take()
    }
}

impl Drop for PlaceDuringLogin {
    fn drop(&mut self) {
        if let Some(place) = self.place.take().filter(|_| self.keep) {
            place.forget();
        }
    }
}

/// A login that waits for its permit, until dropped.
struct WaitingLogin(MemoryPool);

impl WaitingLogin {
    fn new(pool: MemoryPool) -> Self {
        pool.0.waiting.fetch_add(1, Ordering::AcqRel);
        Self(pool)
    }
}

impl Drop for WaitingLogin {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Dropping it returns it to its pool.
pub(crate) struct MemoryConnection {
    socket: Option<Arc<Socket>>,
    pool: MemoryPool,
    place: Option<OwnedSemaphorePermit>,
}

impl MemoryConnection {
    pub(crate) async fn query(&self) -> Result<(), ConnectError> {
        match &self.socket {
            Some(socket) => socket.query().await,
            None => Err(ConnectError::new(ConnectErrorKind::Other, "it is closed")),
        }
    }

    pub(crate) fn close(&mut self) {
        self.socket = None;
    }

    pub(crate) fn forget_place(&mut self) {
        if let Some(place) = self.place.take() {
            place.forget();
        }
    }

    pub(crate) fn return_to_pool(&mut self) {
        let socket = self.socket.take();
        if let Some(socket) = socket.filter(|_| !self.pool.is_closed()) {
            self.pool.0.idle.lock().push(socket);
        }
        self.place = None;
    }
}

impl Drop for MemoryConnection {
    fn drop(&mut self) {
        if self.socket.is_some() && self.pool.has(Defect::DropKeepsPlace) {
            self.forget_place();
        }
        self.return_to_pool();
    }
}
