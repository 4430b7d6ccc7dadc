//! Routes for Kubernetes and operators, to merge into the router of a service that uses
//! [Claviger](claviger): probes, a status page, and operations with a token.
//!
//! | route | function | response |
//! |---|---|---|
//! | `GET /livez` | [`probes`] | 200 while the process responds, independent of databases |
//! | `GET /readyz` | [`probes`] | 200 while every credential is valid and verified, else 503 |
//! | `GET /status` | [`status`] | the whole [`Status`](claviger::status::Status) |
//! | `GET /`, `GET /events` | [`page`] | the status page for a browser, kept up to date |
//! | `POST /rotate`, `/hold`, `/resume`, `/roll_back`, `/rehearse` | [`operations`] | operations with a token |
//!
//! Routes are mounted only if their function is called. All bodies but the page's are JSON. That of
//! `/readyz` lists the reasons. None of them contains a secret. The bodies for operators contain
//! the names of providers and pools, and error messages of the database: serve them to operators
//! only.
//!
//! The [guide](https://github.com/claviger/claviger/blob/main/docs/frameworks/axum.md) has a whole
//! service, with the order of its start and its shutdown.
//!
//! ```
//! use axum::{Router, routing::get};
//! use claviger::Supervisor;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let supervisor = Supervisor::start();
//! let service: Router = Router::new()
//!     .route("/orders", get(async || "none"))
//!     .merge(claviger_axum::probes(&supervisor));
//! // For operators only, for example on another port.
//! let operators: Router =
//!     claviger_axum::page(&supervisor).merge(claviger_axum::status(&supervisor));
//! # drop((service, operators));
//! # }
//! ```

mod operations;
mod page;
mod probes;

pub use operations::{OperatorToken, TokenError, operations};
pub use page::page;
pub use probes::{probes, status};
