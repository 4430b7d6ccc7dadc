//! Test doubles for Claviger: a provider and a pool that do as a script says, a clock that tests
//! move, crashes on demand.
//!
//! For what the real thing cannot produce on demand: minutes that pass at once (with tokio's paused
//! time), a store that fails the next time, an actor that crashes at a named step. For everything
//! else use the real thing.
//!
//! ```
//! use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), claviger::Error> {
//! let lab = Lab::new();
//! let (store, database) = (ScriptedProvider::new(), ScriptedPools::new(10));
//! let login = lab.supervisor.add_provider("login", store.clone()).await?;
//! let pool = lab.supervisor.add_pool("pool", &login, database.clone()).await?;
//! assert_eq!(pool.current().password(), "password-1");
//!
//! store.rotate();
//! lab.supervisor.rotate_now("login").await?;
//! assert_eq!(pool.current().password(), "password-2");
//! assert_eq!(store.calls().len(), 2);
//! # Ok(()) }
//! ```

mod lab;
mod pool;
mod provider;

pub use claviger::testing::{Failpoints, MovedClock};
pub use lab::Lab;
pub use pool::{ScriptedConnection, ScriptedPool, ScriptedPools};
pub use provider::{Call, FetchLease, ScriptedProvider};
