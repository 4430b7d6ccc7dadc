//! Real servers for tests, started in a second and removed completely.
//!
//! A [`Postgres`] is a PostgreSQL server with a fresh data folder, on a free port of 127.0.0.1. It
//! reports what a test needs ([`PostgresLog`]: how many logins were rejected or accepted), and
//! fails as servers fail ([`Postgres::stall`], [`Postgres::stop`],
//! [`Postgres::terminate_connections`]).
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
//! A [`MariaDb`] is the same for MariaDB. Both optionally verify IAM tokens as RDS does, and report
//! the results ([`TokenChecks`]).
//!
//! - [`Moto`] emulates AWS for clients that use its endpoint.
//! - [`OpenBao`] is a secrets server; Vault can take its place.
//! - [`Proxy`] counts the requests to either of them and injects faults.
//! - [`TokenReviews`] is the part of a Kubernetes cluster that a secrets server needs.
//! - [`PgBouncer`] pools connections to a [`Postgres`].
//! - [`Jaeger`] stores traces.
//! - [`Redis`] authenticates users of its access control list.
//! - [`Prometheus`] scrapes a service and fires its alerts.
//! - [`Chromium`] is a browser that tests control.
//!
//! # Where the programs come from
//!
//! [`Programs`] finds what is installed. [`install`] adds what is missing, without starting a
//! service: Debian packages on Debian and Ubuntu, packages of Python and Go in a folder beside
//! cargo's output. If a server is not found, the error contains the command that installs it
//! ([`NotInstalled`]).
//!
//! # What is left behind
//!
//! No process and no folder remains: not after a drop, not after a panic, and not after SIGKILL to
//! the test process. Each server is the child of a small shell process, the guardian, which waits
//! at a pipe that only the test process keeps open. When that process ends, the pipe closes; the
//! guardian stops the server and deletes the folder. Only SIGKILL to the guardian itself defeats
//! this.
//!
//! # Features
//!
//! `tls` (default) adds TLS and tokens to the builders, and `JwtIssuer`. Without it the crate
//! depends on std alone and compiles in a second or two.

#[cfg(not(unix))]
compile_error!("claviger-servers needs a Unix: it works with signals, users and a shell");

mod account;
mod chromium;
mod client;
mod data_folder;
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
pub mod redis;
mod server;
mod text_log;
mod tls;
mod token_reviews;
mod tokens;
mod tools;

pub use chromium::Chromium;
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
pub use postgres::{Postgres, PostgresLog};
pub use programs::{NotInstalled, Programs, find_postgres};
pub use prometheus::Prometheus;
pub use proxy::{InjectedFault, Proxy, Request};
pub use redis::Redis;
pub use server::Server;
pub use token_reviews::TokenReviews;
pub use tokens::{TokenCheck, TokenChecks};
