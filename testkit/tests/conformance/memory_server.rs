//! A database server in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::{Credentials, Endpoint};
use claviger_testkit::conformance::{ControlError, PoolControls};
use parking_lot::Mutex;
use tokio::time::sleep;

use super::memory_pools::{MemoryConnection, MemoryPools};

const HERE: &str = "db.internal";

#[derive(Debug)]
struct State {
    password: u32,
    running: bool,
    next_id: u64,
    /// Each open connection, with the number of the password of its last authentication.
    open: HashMap<u64, u32>,
    rejected: u32,
}

/// Clones share one server.
#[derive(Clone, Debug)]
pub(crate) struct MemoryServer(Arc<Mutex<State>>);

/// The server's end of a connection. Its drop closes the connection.
#[derive(Debug)]
pub(crate) struct Socket {
    server: MemoryServer,
    id: u64,
}

impl MemoryServer {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            password: 1,
            running: true,
            next_id: 0,
            open: HashMap::new(),
            rejected: 0,
        })))
    }

    pub(crate) fn open_sockets(&self) -> usize {
        self.0.lock().open.len()
    }

    /// Logs in, which takes two milliseconds.
    pub(crate) async fn log_in(&self, credentials: &Credentials) -> Result<Socket, ConnectError> {
        let is_here = |endpoint: &Endpoint| endpoint.host() == HERE;
        let socket = {
            let mut state = self.0.lock();
            if !state.running || !credentials.endpoint().is_none_or(is_here) {
                let message = "connection refused";
                return Err(ConnectError::new(ConnectErrorKind::Unreachable, message));
            }
            state.next_id += 1;
            let id = state.next_id;
            state.open.insert(id, 0);
            Socket {
                server: self.clone(),
                id,
            }
        };
        sleep(Duration::from_millis(2)).await;
        socket.authenticate(credentials)?;
        Ok(socket)
    }
}

pub(crate) fn rejection() -> ConnectError {
    let message = "password authentication failed for user \"app\"";
    ConnectError::new(ConnectErrorKind::Rejected, message).with_code("28P01")
}

fn password(number: u32) -> String {
    format!("s3cret-{number}")
}

impl Socket {
    /// Authenticates, again if it is open already.
    pub(crate) fn authenticate(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        let mut state = self.server.0.lock();
        let number = state.password;
        if credentials.expose_password() != password(number) {
            state.rejected += 1;
            return Err(rejection());
        }
        if let Some(authenticated) = state.open.get_mut(&self.id) {
            *authenticated = number;
        }
        Ok(())
    }

    /// Runs a statement.
    pub(crate) async fn query(&self) -> Result<(), ConnectError> {
        sleep(Duration::from_micros(100)).await;
        if self.server.0.lock().open.contains_key(&self.id) {
            return Ok(());
        }
        let message = "terminating connection due to administrator command";
        Err(ConnectError::new(ConnectErrorKind::Unreachable, message))
    }

    /// Closes the connection at the server, as a defective pool does with busy ones.
    pub(crate) fn cut(&self) {
        self.server.0.lock().open.remove(&self.id);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.cut();
    }
}

impl PoolControls<MemoryPools> for MemoryServer {
    fn credentials(&self) -> Credentials {
        let number = self.0.lock().password;
        Credentials::new("app", password(number)).with_endpoint(Endpoint::server(HERE, 5432))
    }

    fn secret_text(&self, credentials: &Credentials) -> String {
        credentials.expose_password().to_owned()
    }

    async fn change_password(&self) -> Result<(), ControlError> {
        self.0.lock().password += 1;
        Ok(())
    }

    async fn open_connections(&self) -> Result<u32, ControlError> {
        Ok(u32::try_from(self.open_sockets())?)
    }

    async fn kill_connections(&self) -> Result<(), ControlError> {
        self.0.lock().open.clear();
        Ok(())
    }

    async fn kill_connections_of(&self, credentials: &Credentials) -> Result<bool, ControlError> {
        let mut state = self.0.lock();
        let of_credentials = |number| password(number) == credentials.expose_password();
        state.open.retain(|_, number| !of_credentials(*number));
        Ok(true)
    }

    async fn query(&self, connection: &mut MemoryConnection) -> Result<(), ControlError> {
        Ok(connection.query().await?)
    }

    fn unreachable_credentials(&self) -> Option<Credentials> {
        let endpoint = Endpoint::server("elsewhere.internal", 5432);
        Some(self.credentials().with_endpoint(endpoint))
    }

    async fn rejected_logins(&self) -> Result<Option<u32>, ControlError> {
        Ok(Some(self.0.lock().rejected))
    }

    async fn set_running(&self, running: bool) -> Result<bool, ControlError> {
        let mut state = self.0.lock();
        state.running = running;
        if !running {
            state.open.clear();
        }
        Ok(true)
    }
}
