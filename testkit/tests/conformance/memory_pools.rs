//! A pool that is correct except for one fault.

use std::error::Error as StdError;
use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::{
    AcquireError, Check, CheckPolicy, LoginPermits, PoolFactory, PoolSettings, Taken,
};
use claviger::{Credentials, Lease};
use parking_lot::Mutex;
use tokio::time::sleep;

use super::fault::Fault;
pub(crate) use super::memory_pool::MemoryConnection;
use super::memory_pool::{MemoryError, MemoryPool};
use super::memory_server::{MemoryServer, Socket};

pub(crate) struct MemoryPools {
    server: MemoryServer,
    settings: PoolSettings,
    fault: Option<Fault>,
    /// Connections of a faulty verification.
    kept: Arc<Mutex<Vec<Socket>>>,
    last_password: Mutex<String>,
}

impl MemoryPools {
    pub(crate) fn new(server: MemoryServer, fault: Option<Fault>) -> Self {
        let mut settings = PoolSettings::new(4);
        settings.checks = CheckPolicy::Always;
        Self {
            server,
            settings,
            fault,
            kept: Arc::default(),
            last_password: Mutex::default(),
        }
    }

    pub(crate) fn with_own_queue(mut self) -> Self {
        self.settings.own_queue = true;
        self
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    async fn bare_login(&self, credentials: &Credentials) -> Result<Socket, ConnectError> {
        if self.has(Fault::VerifyLeaksWhenDropped) {
            let (server, kept) = (self.server.clone(), Arc::clone(&self.kept));
            let own = credentials.clone();
            let login = tokio::spawn(async move {
                let socket = server.log_in(&own).await?;
                kept.lock().push(socket);
                Ok(())
            });
            login.await.unwrap_or(Ok(()))?;
            let own = self.kept.lock().pop();
            return own.ok_or_else(|| ConnectError::new(ConnectErrorKind::Other, "no connection"));
        }
        self.server.log_in(credentials).await
    }
}

impl fmt::Debug for MemoryPools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("MemoryPools");
        if self.has(Fault::DebugShowsThePassword) {
            debug.field("password", &*self.last_password.lock());
        }
        debug.finish_non_exhaustive()
    }
}

fn with_kind(error: ConnectError, from: ConnectErrorKind, to: ConnectErrorKind) -> ConnectError {
    if error.kind() == from {
        error.with_kind(to)
    } else {
        error
    }
}

impl PoolFactory for MemoryPools {
    type Secret = Credentials;
    type Pool = MemoryPool;
    type Connection = MemoryConnection;
    type Error = MemoryError;

    fn settings(&self) -> PoolSettings {
        self.settings.clone()
    }

    fn check(&self, _: &Lease<Credentials>) -> Result<(), ConnectError> {
        if self.has(Fault::CheckRejectsAll) {
            let kind = ConnectErrorKind::Misconfigured;
            return Err(ConnectError::new(kind, "user: is \"app\"; choose another"));
        }
        Ok(())
    }

    fn vacant(&self) -> MemoryPool {
        let pool = MemoryPool::closed(self.server.clone());
        match self.fault {
            Some(Fault::VacantHangs) => pool.with_hanging_get(),
            Some(Fault::VacantHasConnections) => pool.with_wrong_count(),
            _ => pool,
        }
    }

    #[expect(clippy::panic, reason = "the fault requests it")]
    async fn verify(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        use ConnectErrorKind::{Other, Rejected, Unreachable};
        match self.fault {
            Some(Fault::VerifyRejectsAll) => return Err(ConnectError::new(Other, "no")),
            Some(Fault::VerifyAcceptsAll) => return Ok(()),
            Some(Fault::VerifyHangs) => pending().await,
            Some(Fault::VerifyPanics) => panic!("scripted panic"),
            _ => {}
        }
        let logged_in = self.bare_login(credentials).await;
        let socket = logged_in.map_err(|error| match self.fault {
            Some(Fault::VerifyCallsRejectionsUnreachable) => {
                with_kind(error, Rejected, Unreachable)
            }
            Some(Fault::VerifyCallsOutagesRejections) => with_kind(error, Unreachable, Rejected),
            _ => error,
        })?;
        socket.query().await?;
        if self.has(Fault::VerifyKeepsItsConnection) {
            self.kept.lock().push(socket);
        }
        Ok(())
    }

    async fn verify_as_pool(
        &self,
        credentials: &Credentials,
        _: Duration,
    ) -> Result<(), ConnectError> {
        let socket = self.server.log_in(credentials).await?;
        if self.has(Fault::VerifyAsPoolKeepsItsConnection) {
            self.kept.lock().push(socket);
        }
        Ok(())
    }

    fn account(&self, credentials: &Credentials) -> String {
        let server = self.server(credentials);
        match self.fault {
            Some(Fault::AccountHasThePassword) => {
                format!("{}@{server}", credentials.expose_password())
            }
            _ => format!("{}@{server}", credentials.user()),
        }
    }

    fn server(&self, credentials: &Credentials) -> String {
        let endpoint = credentials.endpoint();
        match (self.fault, endpoint) {
            (Some(Fault::OneServerName), _) | (_, None) => "db".to_owned(),
            (_, Some(endpoint)) => endpoint.host().to_owned(),
        }
    }

    #[expect(clippy::panic, reason = "the fault requests it")]
    async fn make_room(&self, pool: &MemoryPool) -> bool {
        match self.fault {
            Some(Fault::MakeRoomClosesNone) => return true,
            Some(Fault::MakeRoomHangs) => pending().await,
            Some(Fault::MakeRoomBlocks) => std::thread::sleep(Duration::from_secs(25)),
            Some(Fault::MakeRoomPanics) => panic!("scripted panic"),
            _ => {}
        }
        pool.close_one_idle()
    }

    fn open(
        &self,
        credentials: &Credentials,
        logins: LoginPermits,
    ) -> Result<MemoryPool, ConnectError> {
        credentials
            .expose_password()
            .clone_into(&mut self.last_password.lock());
        let max = match self.fault {
            Some(Fault::OneConnectionLess) => self.settings.max_connections - 1,
            Some(Fault::OneConnectionMore) => self.settings.max_connections + 1,
            _ => self.settings.max_connections,
        };
        let logins = self.settings.own_queue.then_some(logins);
        let server = self.server.clone();
        let pool = MemoryPool::open(server, credentials.clone(), max, logins, self.fault);
        if self.has(Fault::OpenConnects) {
            pool.log_in_unrequested();
        }
        Ok(pool)
    }

    async fn warm(
        &self,
        pool: &MemoryPool,
        connections: u32,
        _: Duration,
    ) -> Result<u32, ConnectError> {
        let number = if self.has(Fault::WarmOpensOne) {
            1
        } else {
            connections
        };
        let mut opened = Vec::new();
        for _ in 0..number {
            let got = pool.get().await;
            opened.push(got.map_err(|error| self.classify(&error))?);
        }
        drop(opened);
        Ok(connections)
    }

    fn update_in_place(&self, pool: &MemoryPool, old: &Credentials, new: &Credentials) -> bool {
        let same_endpoint = old.endpoint() == new.endpoint();
        if !same_endpoint && !self.has(Fault::UpdateAcceptsAnotherAddress) {
            return false;
        }
        if self.has(Fault::UpdateClosesConnections) {
            pool.cut();
        }
        if !self.has(Fault::UpdateKeepsCredentials) {
            pool.set_credentials(new.clone());
        }
        !self.has(Fault::UpdateReturnsFalse)
    }

    async fn drain(&self, pool: MemoryPool) {
        if self.has(Fault::DrainDoesNothing) {
            return;
        }
        if !self.has(Fault::DrainedPoolOpens) {
            pool.close();
        }
        if self.has(Fault::DrainCutsBusy) {
            pool.cut();
        }
        if !self.has(Fault::DrainKeepsIdle) {
            pool.close_idle();
        }
        if self.has(Fault::DrainResolvesAtOnce) {
            return;
        }
        pool.until_returned().await;
        pool.close_idle();
        if self.has(Fault::DrainNeverResolves) {
            pending::<()>().await;
        }
    }

    fn connections(&self, pool: &MemoryPool) -> u32 {
        match self.fault {
            Some(Fault::CountsBusyAlone) => pool.busy(),
            _ => pool.busy() + pool.idle(),
        }
    }

    fn idle(&self, pool: &MemoryPool) -> u32 {
        match self.fault {
            Some(Fault::CountsAllAsIdle) => pool.busy() + pool.idle(),
            _ => pool.idle(),
        }
    }

    fn classify(&self, error: &(dyn StdError + 'static)) -> ConnectError {
        use ConnectErrorKind::{Other, Rejected, Unreachable};
        let other = || ConnectError::new(Other, error.to_string());
        let connect_error = match error.downcast_ref() {
            Some(MemoryError::Connect(error)) => Some(error),
            _ => error.downcast_ref::<ConnectError>(),
        };
        let classified = connect_error.cloned().unwrap_or_else(other);
        match self.fault {
            Some(Fault::ClassifiesAllAsOther) => classified.with_kind(Other),
            Some(Fault::ClassifiesRejectionsAsUnreachable) => {
                with_kind(classified, Rejected, Unreachable)
            }
            Some(Fault::ClassifyLosesTheCode) => {
                ConnectError::new(classified.kind(), classified.message())
            }
            Some(Fault::ClassifiesOutagesAsRejections) => {
                with_kind(classified, Unreachable, Rejected)
            }
            _ => classified,
        }
    }

    fn try_get(&self, pool: &MemoryPool) -> Option<Taken<MemoryConnection>> {
        match self.fault {
            Some(Fault::TryGetLogsIn) => pool.log_in_unrequested(),
            Some(Fault::TryGetIgnoresIdle) => return None,
            Some(Fault::TryGetBlocks) => std::thread::sleep(Duration::from_millis(400)),
            _ => {}
        }
        pool.try_get().map(Taken::from)
    }

    async fn get(&self, pool: &MemoryPool) -> Result<Taken<MemoryConnection>, MemoryError> {
        pool.get().await.map(Taken::from)
    }

    async fn check_connection(
        &self,
        connection: &mut MemoryConnection,
        _: Check,
    ) -> Result<(), MemoryError> {
        if self.has(Fault::AcceptsKilledConnections) {
            return Ok(());
        }
        connection.query().await.map_err(MemoryError::Connect)
    }

    fn discard(&self, mut connection: MemoryConnection) {
        match self.fault {
            Some(Fault::DiscardReturns) => {}
            Some(Fault::DiscardKeepsPlace) => {
                connection.forget_place();
                connection.close();
            }
            _ => connection.close(),
        }
    }

    async fn give_back(&self, mut connection: MemoryConnection) {
        match self.fault {
            Some(Fault::GiveBackCloses) => connection.close(),
            Some(Fault::GiveBackIsLate) => {
                tokio::spawn(async move {
                    sleep(Duration::from_millis(50)).await;
                    drop(connection);
                });
            }
            Some(Fault::DropKeepsPlace) => connection.return_to_pool(),
            _ => {}
        }
    }

    fn is_timeout(&self, error: &MemoryError) -> bool {
        matches!(error, MemoryError::TimedOut) && !self.has(Fault::TimeOutsAreUnknown)
    }

    fn is_closed(&self, error: &MemoryError) -> bool {
        matches!(error, MemoryError::Closed) && !self.has(Fault::ClosedIsUnknown)
    }

    fn error(&self, error: AcquireError<'_>) -> MemoryError {
        match error {
            AcquireError::Connect(_) if self.has(Fault::ErrorLosesTheRejection) => {
                MemoryError::TimedOut
            }
            AcquireError::Connect(error) => MemoryError::Connect(error.clone()),
            AcquireError::Closed => MemoryError::Closed,
            _ => MemoryError::TimedOut,
        }
    }
}
