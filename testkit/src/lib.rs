//! Test doubles for Claviger: a scripted provider, a scripted pool, a clock that tests move, and
//! failpoints that crash actors. For authors of pools there is a [conformance kit](conformance).
//!
//! Use them for what real servers cannot produce on demand: minutes that pass at once (with tokio's
//! paused clock), a fetch that fails, an actor that crashes at a named step. For everything else,
//! test with the real server.
//!
//! ```
//! use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), claviger::Error> {
//! let lab = Lab::new();
//! let (provider, database) = (ScriptedProvider::new(), ScriptedPools::new(10));
//! let credentials = lab.supervisor.add_provider("credentials", provider.clone()).await?;
//! let pool = lab.supervisor.add_pool("pool", &credentials, database.clone()).await?;
//! assert_eq!(pool.current().password(), "password-1");
//!
//! provider.rotate();
//! lab.supervisor.rotate_now("credentials").await?;
//! assert_eq!(pool.current().password(), "password-2");
//! assert_eq!(provider.calls().len(), 2);
//! # Ok(()) }
//! ```

pub mod conformance;
mod lab;
mod pool;
mod provider;

pub use claviger::testing::{Failpoints, MovedClock};
pub use lab::Lab;
pub use pool::{ScriptedConnection, ScriptedPool, ScriptedPools};
pub use provider::{Call, FetchLease, ScriptedProvider};
