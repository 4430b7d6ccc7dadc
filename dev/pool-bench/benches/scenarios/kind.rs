//! A kind of pool, the plain pool beside it, and their server.

use std::future::Future;
use std::time::Duration;

use claviger::pool::PoolFactory;
use claviger::{Credentials, Handle};

/// Maximum number of connections of a pool.
pub(crate) const CONNECTIONS: u32 = 10;
/// Deadline of a call for its connection.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// User of the pools.
pub(crate) const USER: &str = "app";

/// A server with the user [`USER`].
pub(crate) trait Database: Send + Sync + Sized + 'static {
    /// Starts a server whose user has this password.
    fn start(password: &str) -> Self;
    fn change_password(&self, password: &str);
    fn terminate_connections(&self);
    fn rejected_logins(&self) -> u64;
}

/// A kind of pool.
pub(crate) trait Kind: 'static {
    /// Name of the kind, also on the command line.
    const NAME: &'static str;
    type Server: Database;
    /// Claviger's pools of this kind.
    type Pools: PoolFactory<Secret = Credentials>;
    /// A pool of this kind without Claviger. Clones are the same pool.
    type Plain: Clone + Send + Sync + 'static;

    fn pools(server: &Self::Server) -> Self::Pools;
    fn plain(server: &Self::Server, password: &str) -> impl Future<Output = Self::Plain> + Send;

    /// Takes a connection, and executes one query on it.
    fn call(pool: &Handle<Self::Pools>) -> impl Future<Output = Result<(), String>> + Send;
    /// Does the same with a plain pool.
    fn call_plain(pool: &Self::Plain) -> impl Future<Output = Result<(), String>> + Send;
}
