//! Keeps a service's connection pools alive through every credential rotation.
//!
//! A [`Supervisor`] owns providers, which issue credentials, and pools, which log in with them.
//! When a credential is renewed, changed, rejected or about to die, the new one is verified by a
//! real login, the pool is handed over to it, and what the old one opened is drained, while queries
//! go on through a [`Handle`].
//!
//! ```
//! # #[cfg(all(feature = "postgres", feature = "sqlx-09"))] mod service {
//! use std::time::Duration;
//! use claviger::{Credentials, PgPools, Supervisor, fixed};
//! use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
//!
//! async fn service() -> Result<(), Box<dyn std::error::Error>> {
//!     let supervisor = Supervisor::start();
//!     let login = supervisor.add_provider("orders-login", fixed(Credentials::new("orders", "s3cret"))).await?;
//!     let options = PgConnectOptions::new().host("db.internal").database("orders");
//!     let db = supervisor.add_pool("orders", &login, PgPools::new(options, PgPoolOptions::new())).await?;
//!
//!     let n: i64 = sqlx::query_scalar("select count(*) from orders").fetch_one(&db).await?; // as with &PgPool
//!     println!("{n} orders");
//!     supervisor.shutdown(Duration::from_secs(10)).await;
//!     Ok(())
//! }
//! # }
//! ```
//!
//! The words: a *provider* issues *leases* (a secret, its *revision*, when it dies, what becomes of
//! its connections); a *pool* serves one *generation* at a time; a *handover* goes from one to the
//! next; a *rotation* is the whole event, from its *trigger* to the release of the old lease.

#![cfg_attr(
    not(any(feature = "sqlx-08", feature = "sqlx-09")),
    expect(dead_code, reason = "some parts serve sqlx's pools alone")
)]

mod actor;
mod clock;
mod context;
mod credentials;
mod error;
mod events;
mod expiry;
mod failpoints;
mod failure_log;
mod handle;
mod id;
mod lease;
mod lock;
mod next_attempt;
mod notifier;
mod pool;
mod provider;
pub mod quiet;
mod report;
mod rotation;
#[cfg(feature = "serde")]
mod serialize;
#[doc(hidden)]
#[cfg(feature = "testing")]
pub mod simulation;
#[cfg(any(feature = "sqlx-08", feature = "sqlx-09"))]
mod sql;
#[cfg(feature = "sqlx-08")]
pub mod sqlx_08;
#[cfg(feature = "sqlx-09")]
pub mod sqlx_09;
mod status;
mod supervisor;
mod telemetry;

pub use clock::{Clock, Timestamp};
pub use credentials::{Credentials, Endpoint};
pub use error::{
    ConnectError, ConnectErrorKind, Error, ErrorKind, ProviderError, ProviderErrorKind,
};
pub use events::{Event, Events};
pub use expiry::Expiry;
pub use handle::Handle;
pub use lease::{Lease, OldConnections, Revision};
pub use pool::{
    AcquireError, Check, CheckPolicy, HandoverPolicy, PoolFactory, PoolSettings, Taken,
};
pub use provider::{
    FetchRequest, Fetched, Hints, Provider, ProviderFn, StaticCredentials, fixed, provider_fn,
};
pub use report::{
    Abandoned, HandoverMode, HandoverReport, RotationOutcome, RotationReport, RotationTrigger,
    ShutdownReport,
};
#[cfg(all(feature = "sqlx-09", feature = "mysql"))]
pub use sqlx_09::MySqlPools;
#[cfg(all(feature = "sqlx-09", feature = "postgres"))]
pub use sqlx_09::PgPools;
#[cfg(feature = "sqlx-09")]
pub use sqlx_09::{SharedError, SqlPools};
pub use status::{DrainStatus, Liveness, PoolStatus, ProviderStatus, Readiness, Status};
pub use supervisor::{ProviderRef, Supervisor, SupervisorBuilder};

/// A clock that tests move, and crashes at a named step: for `claviger-testkit` alone, and without
/// any promise.
#[doc(hidden)]
#[cfg(feature = "testing")]
pub mod testing {
    pub use crate::clock::MovedClock;
    pub use crate::failpoints::Failpoints;
}

/// The README's code compiles and runs.
#[cfg(all(doctest, feature = "postgres", feature = "sqlx-09"))]
#[doc = include_str!("../README.md")]
struct Readme;
