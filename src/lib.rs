//! Keeps a service's connections working while its credentials rotate.
//!
//! A [`Supervisor`] owns providers, which obtain credentials from a backend, and pools, which
//! connect with them. When a credential is changed, rejected or about to expire, a new one is
//! obtained and verified by a real login. Then the pool is handed over to it, and the old
//! connections are drained. Queries continue through a [`Handle`].
//!
//! ```
//! # #[cfg(all(feature = "postgres", feature = "sqlx-09"))] mod service {
//! use std::time::Duration;
//! use claviger::{Credentials, PgPools, Supervisor, static_credentials};
//! use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
//!
//! async fn service() -> Result<(), Box<dyn std::error::Error>> {
//!     let supervisor = Supervisor::start();
//!     let provider = static_credentials(Credentials::new("orders", "s3cret"));
//!     let credentials = supervisor.add_provider("orders-credentials", provider).await?;
//!     let options = PgConnectOptions::new().host("db.internal").database("orders");
//!     let pools = PgPools::new(options, PgPoolOptions::new());
//!     let db = supervisor.add_pool("orders", &credentials, pools).await?;
//!
//!     // As with &PgPool.
//!     let n: i64 = sqlx::query_scalar("select count(*) from orders").fetch_one(&db).await?;
//!     println!("{n} orders");
//!     supervisor.shutdown(Duration::from_secs(10)).await;
//!     Ok(())
//! }
//! # }
//! ```
//!
//! Eight words have a meaning of their own here:
//!
//! | word | meaning |
//! |---|---|
//! | provider | plug-in that obtains credentials from a backend: a file, AWS, Vault, your own |
//! | lease | one credential as obtained: the secret, its revision, its expiry, what to do with connections opened with it |
//! | revision | the backend's opaque identifier of a credential; equal revision = same credential |
//! | rotation | the whole event: trigger, fetch, handover of every pool, release of the old lease |
//! | generation | counter of what a pool serves: 1, 2, 3 … |
//! | handover | verify → open → warm → publish → drain (replace), or verify → update → publish (in place) |
//! | drain | letting connections of an old generation finish and close |
//! | handle | what application code holds; always leads to the current generation |
//!
//! | feature | contents |
//! |---|---|
//! | `sqlx-09` (default), `sqlx-08` | pools of sqlx 0.9 and 0.8.6; both may be enabled |
//! | `postgres` (default), `mysql` | the databases of these pools |
//! | `tls` (default) | TLS for sqlx: rustls with aws-lc-rs |
//! | `otel` | OpenTelemetry: links, span status and metrics |
//! | `serde` | `Serialize` for status and readiness |
//!
//! The [guide] has a page for each backend, pool and framework, [how a rotation goes][rotation],
//! and the [guarantees and limits][limits]. Providers for files, AWS and Vault, and pools of other
//! libraries, are crates of their own: the [README] lists them.
//!
//! [guide]: https://github.com/claviger/claviger/blob/main/docs/README.md
//! [rotation]: https://github.com/claviger/claviger/blob/main/docs/rotation.md
//! [limits]: https://github.com/claviger/claviger/blob/main/docs/guarantees.md
//! [README]: https://github.com/claviger/claviger/blob/main/README.md
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(any(feature = "sqlx-08", feature = "sqlx-09")),
    expect(dead_code, reason = "some parts are used by sqlx's pools alone")
)]

mod actor;
mod clock;
mod context;
mod credentials;
pub mod error;
pub mod events;
mod expiry;
mod failpoints;
mod failure_log;
mod handle;
mod id;
pub mod lease;
mod lock;
mod next_attempt;
mod notifier;
pub mod pool;
pub mod provider;
pub mod quiet;
pub mod report;
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
pub mod status;
pub mod supervisor;
mod telemetry;

pub use credentials::{Credentials, Endpoint};
pub use error::Error;
pub use handle::Handle;
pub use lease::{Lease, Revision};
pub use provider::{Provider, provider_fn, static_credentials};
#[cfg(all(feature = "sqlx-09", feature = "mysql"))]
pub use sqlx_09::MySqlPools;
#[cfg(all(feature = "sqlx-09", feature = "postgres"))]
pub use sqlx_09::PgPools;
pub use supervisor::{Supervisor, SupervisorBuilder};

/// A clock that tests move, panics at a named step, and permits without a supervisor: for
/// `claviger-testkit` alone, without any guarantee of compatibility.
#[doc(hidden)]
#[cfg(feature = "testing")]
pub mod testing {
    pub use crate::clock::MovedClock;
    pub use crate::failpoints::Failpoints;
    pub use crate::pool::ObservedPermits;
}

/// Compiles and runs the README's code.
#[cfg(all(doctest, feature = "postgres", feature = "sqlx-09"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles the code of the guide for authors of pools and providers, and runs its provider.
#[cfg(all(doctest, feature = "postgres", feature = "sqlx-09"))]
#[doc = include_str!("../docs/conformance.md")]
struct ConformanceGuide;
