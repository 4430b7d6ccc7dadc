//! Real servers for tests: started in a second, gone without a trace.
//!
//! A [`Postgres`] is a PostgreSQL server of its own, with a fresh data folder, on a free
//! port of 127.0.0.1. It can be asked what a test needs to know ([`Log`]: how many
//! logins were rejected, how many were let in) and made to fail the way servers fail
//! ([`Postgres::stall`], [`Postgres::stop`], [`Postgres::terminate_connections`]).
//!
//! ```
//! use claviger_servers::Postgres;
//!
//! fn a_test() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = Postgres::start()?;
//!     server.create_role("app", "first password")?;
//!     server.create_database("orders", "app")?;
//!
//!     let url = format!("postgres://app@{}:{}/orders", server.host(), server.port());
//!     // … connect, then change the password under the open connections:
//!     server.set_password("app", "second password")?;
//!     server.terminate_connections("app")?;
//!     // … and count what the change cost:
//!     assert_eq!(server.log().rejected_logins_of("app")?, 0);
//!     drop(url);
//!     Ok(())
//! }
//! ```
//!
//! A [`MariaDb`] is the same for MariaDB. Both check IAM tokens as AWS's databases do, when
//! they are started so, and tell what they found ([`TokenChecks`]).
//!
//! A [`Moto`] answers as AWS does, for clients whose endpoint it is. An [`OpenBao`] is a server of
//! secrets, which Vault may take the place of. A [`Jaeger`] keeps traces and tells them. A
//! [`Proxy`] in front of it counts their requests and lets them fail. A [`TokenReviews`] is what a
//! server of secrets needs of a Kubernetes cluster. A [`PgBouncer`] pools connections to a
//! [`Postgres`]. A [`Prometheus`] scrapes a service and fires its alerts.
//!
//! # Where the programs come from
//!
//! [`Programs`] looks for what the machine already has. [`install`] adds what is missing,
//! without starting a service: Debian's packages on Debian and Ubuntu, Python's and Go's in a
//! folder beside what cargo builds. A server that cannot be found is an
//! error that carries the line which installs it ([`NotInstalled`]).
//!
//! # What is left behind
//!
//! No process and no folder: not after a drop, not after a panic, and not when the test
//! process is killed with SIGKILL. Each server is the child of a small shell process, the
//! guardian, which waits at a pipe that only the test process holds open. However that
//! process ends, the pipe closes, and the guardian stops the server and deletes the
//! folder. Killing the guardian itself with SIGKILL is the one thing that defeats this.
//!
//! # Features
//!
//! `tls` (default) adds `Builder::tls`, `Builder::tokens` and `JwtIssuer`. Without it the crate
//! depends on std alone and compiles in a second or two.

#[cfg(not(unix))]
compile_error!("claviger-servers needs a Unix: it works with signals, users and a shell");

mod account;
mod client;
mod deadline;
mod debian;
mod error;
mod guardian;
mod http;
mod http_client;
mod install;
mod jaeger;
#[cfg(feature = "tls")]
mod jwt;
mod launch;
pub mod mariadb;
mod moto;
mod nonce;
pub mod openbao;
pub mod pgbouncer;
mod ports;
pub mod postgres;
mod programs;
pub mod prometheus;
mod proxy;
mod python;
mod server;
mod text_log;
mod tls;
mod token_reviews;
mod tokens;
mod tools;

pub use client::SqlError;
pub use error::StartError;
pub use install::{InstallError, install};
pub use jaeger::Jaeger;
#[cfg(feature = "tls")]
pub use jwt::JwtIssuer;
pub use mariadb::MariaDb;
pub use moto::Moto;
pub use openbao::OpenBao;
pub use pgbouncer::PgBouncer;
pub use postgres::{Log, Postgres};
pub use programs::{NotInstalled, Programs, find_postgres};
pub use prometheus::Prometheus;
pub use proxy::{InjectedFault, Proxy, Request};
pub use server::Server;
pub use token_reviews::TokenReviews;
pub use tokens::{TokenCheck, TokenChecks};
