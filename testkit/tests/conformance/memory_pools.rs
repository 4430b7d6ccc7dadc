//! A pool that is correct except for one defect.

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

use super::defect::Defect;
pub(crate) use super::memory_pool::MemoryConnection;
use super::memory_pool::{MemoryError, MemoryPool};
use super::memory_server::{MemoryServer, Socket};

pub(crate) struct MemoryPools {
    server: MemoryServer,
    settings: PoolSettings,
    defect: Option<Defect>,
    /// Connections of a defective verification.
    kept: Arc<Mutex<Vec<Socket>>>,
    last_password: Mutex<String>,
}

impl MemoryPools {
    pub(crate) fn new(server: MemoryServer, defect: Option<Defect>) -> Self {
        let mut settings = PoolSettings::new(4);
        settings.checks = CheckPolicy::Always;
        settings.reauthenticates = true;
        Self {
            server,
            settings,
            defect,
            kept: Arc::default(),
            last_password: Mutex::default(),
        }
    }

    pub(crate) fn with_own_queue(mut self) -> Self {
        self.settings.own_queue = true;
        self
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    fn taken(&self, connection: MemoryConnection) -> Taken<MemoryConnection> {
        if self.has(Defect::IdleTimeIsZero) {
            return Taken::new(connection, Duration::ZERO);
        }
        connection.into()
    }

    async fn bare_login(&self, credentials: &Credentials) -> Result<Socket, ConnectError> {
        if self.has(Defect::VerifyLeaksWhenDropped) {
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
        if self.has(Defect::DebugShowsThePassword) {
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
        if self.has(Defect::CheckRejectsAll) {
            let kind = ConnectErrorKind::Misconfigured;
            return Err(ConnectError::new(kind, "user: is \"app\"; choose another"));
        }
        Ok(())
    }

    fn vacant(&self) -> MemoryPool {
        let pool = MemoryPool::closed(self.server.clone());
        match self.defect {
            Some(Defect::VacantHangs) => pool.with_hanging_get(),
            Some(Defect::VacantHasConnections) => pool.with_wrong_count(),
            _ => pool,
        }
    }

    #[expect(clippy::panic, reason = "the defect requests it")]
    async fn verify(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        use ConnectErrorKind::{Other, Rejected, Unreachable};
        match self.defect {
            Some(Defect::VerifyRejectsAll) => return Err(ConnectError::new(Other, "no")),
            Some(Defect::VerifyAcceptsAll) => return Ok(()),
            Some(Defect::VerifyHangs) => pending().await,
            Some(Defect::VerifyPanics) => panic!("scripted panic"),
            _ => {}
        }
        let mut logged_in = self.bare_login(credentials).await;
        if logged_in.is_err() && self.has(Defect::VerifyRetries) {
            logged_in = self.bare_login(credentials).await;
        }
        let socket = logged_in.map_err(|error| match self.defect {
            Some(Defect::VerifyCallsRejectionsUnreachable) => {
                with_kind(error, Rejected, Unreachable)
            }
            Some(Defect::VerifyCallsOutagesRejections) => with_kind(error, Unreachable, Rejected),
            _ => error,
        })?;
        socket.query().await?;
        if self.has(Defect::VerifyKeepsItsConnection) {
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
        if self.has(Defect::VerifyAsPoolKeepsItsConnection) {
            self.kept.lock().push(socket);
        }
        Ok(())
    }

    fn account(&self, credentials: &Credentials) -> String {
        let server = self.server(credentials);
        match self.defect {
            Some(Defect::AccountHasThePassword) => {
                format!("{}@{server}", credentials.expose_password())
            }
            _ => format!("{}@{server}", credentials.user()),
        }
    }

    fn server(&self, credentials: &Credentials) -> String {
        let endpoint = credentials.endpoint();
        match (self.defect, endpoint) {
            (Some(Defect::OneServerName), _) | (_, None) => "db".to_owned(),
            (_, Some(endpoint)) => endpoint.host().to_owned(),
        }
    }

    #[expect(clippy::panic, reason = "the defect requests it")]
    async fn make_room(&self, pool: &MemoryPool) -> bool {
        match self.defect {
            Some(Defect::MakeRoomClosesNone) => return true,
            Some(Defect::MakeRoomHangs) => pending().await,
            Some(Defect::MakeRoomBlocks) => std::thread::sleep(Duration::from_secs(25)),
            Some(Defect::MakeRoomPanics) => panic!("scripted panic"),
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
        let max = match self.defect {
            Some(Defect::OneConnectionLess) => self.settings.max_connections - 1,
            Some(Defect::OneConnectionMore) => self.settings.max_connections + 1,
            _ => self.settings.max_connections,
        };
        let logins = self.settings.own_queue.then_some(logins);
        let server = self.server.clone();
        let pool = MemoryPool::open(server, credentials.clone(), max, logins, self.defect);
        if self.has(Defect::OpenConnects) {
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
        let number = if self.has(Defect::WarmOpensOne) {
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
        if !same_endpoint && !self.has(Defect::UpdateAcceptsAnotherAddress) {
            return false;
        }
        if self.has(Defect::UpdateClosesConnections) {
            pool.cut();
        }
        if !self.has(Defect::UpdateKeepsCredentials) {
            pool.set_credentials(new.clone());
        }
        !self.has(Defect::UpdateReturnsFalse)
    }

    #[expect(clippy::panic, reason = "the defect requests it")]
    async fn reauthenticate(&self, pool: &MemoryPool, _: Duration) {
        match self.defect {
            Some(Defect::ReauthenticateDoesNothing) => return,
            Some(Defect::ReauthenticateHangs) => pending().await,
            Some(Defect::ReauthenticatePanics) => panic!("scripted panic"),
            Some(Defect::ReauthenticateCuts) => pool.cut(),
            _ => {}
        }
        pool.reauthenticate();
    }

    async fn drain(&self, pool: MemoryPool) {
        if self.has(Defect::DrainDoesNothing) {
            return;
        }
        if !self.has(Defect::DrainedPoolOpens) {
            pool.close();
        }
        if self.has(Defect::DrainCutsBusy) {
            pool.cut();
        }
        if !self.has(Defect::DrainKeepsIdle) {
            pool.close_idle();
        }
        if self.has(Defect::DrainResolvesAtOnce) {
            return;
        }
        pool.until_returned().await;
        pool.close_idle();
        if self.has(Defect::DrainNeverResolves) {
            pending::<()>().await;
        }
    }

    fn connections(&self, pool: &MemoryPool) -> u32 {
        match self.defect {
            Some(Defect::CountsBusyAlone) => pool.busy(),
            _ => pool.busy() + pool.idle(),
        }
    }

    fn idle(&self, pool: &MemoryPool) -> u32 {
        match self.defect {
            Some(Defect::CountsAllAsIdle) => pool.busy() + pool.idle(),
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
        match self.defect {
            Some(Defect::ClassifiesAllAsOther) => classified.with_kind(Other),
            Some(Defect::ClassifiesRejectionsAsUnreachable) => {
                with_kind(classified, Rejected, Unreachable)
            }
            Some(Defect::ClassifyLosesTheCode) => {
                ConnectError::new(classified.kind(), classified.message())
            }
            Some(Defect::ClassifiesOutagesAsRejections) => {
                with_kind(classified, Unreachable, Rejected)
            }
            _ => classified,
        }
    }

    fn try_get(&self, pool: &MemoryPool) -> Option<Taken<MemoryConnection>> {
        match self.defect {
            Some(Defect::TryGetLogsIn) => pool.log_in_unrequested(),
            Some(Defect::TryGetIgnoresIdle) => return None,
            Some(Defect::TryGetBlocks) => std::thread::sleep(Duration::from_millis(400)),
            _ => {}
        }
        pool.try_get().map(|connection| self.taken(connection))
    }

    async fn get(&self, pool: &MemoryPool) -> Result<Taken<MemoryConnection>, MemoryError> {
        pool.get().await.map(|connection| self.taken(connection))
    }

    async fn check_connection(
        &self,
        connection: &mut MemoryConnection,
        _: Check,
    ) -> Result<(), MemoryError> {
        if self.has(Defect::AcceptsKilledConnections) {
            return Ok(());
        }
        connection.query().await.map_err(MemoryError::Connect)
    }

    fn discard(&self, mut connection: MemoryConnection) {
        match self.defect {
            Some(Defect::DiscardReturns) => {}
            Some(Defect::DiscardKeepsPlace) => {
                connection.forget_place();
                connection.close();
            }
            _ => connection.close(),
        }
    }

    async fn give_back(&self, mut connection: MemoryConnection) {
        match self.defect {
            Some(Defect::GiveBackCloses) => connection.close(),
            Some(Defect::GiveBackIsLate) => {
                tokio::spawn(async move {
                    sleep(Duration::from_millis(50)).await;
                    drop(connection);
                });
            }
            Some(Defect::DropKeepsPlace) => connection.return_to_pool(),
            _ => {}
        }
    }

    fn is_timeout(&self, error: &MemoryError) -> bool {
        matches!(error, MemoryError::TimedOut) && !self.has(Defect::TimeoutsAreUnknown)
    }

    fn is_closed(&self, error: &MemoryError) -> bool {
        matches!(error, MemoryError::Closed) && !self.has(Defect::ClosedIsUnknown)
    }

    fn error(&self, error: AcquireError<'_>) -> MemoryError {
        match error {
            AcquireError::Connect(_) if self.has(Defect::ErrorLosesTheRejection) => {
                MemoryError::TimedOut
            }
            AcquireError::Connect(error) => MemoryError::Connect(error.clone()),
            AcquireError::Closed => MemoryError::Closed,
            _ => MemoryError::TimedOut,
        }
    }
}
