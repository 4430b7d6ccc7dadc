//! Routes for Kubernetes and operators, to merge into the router of a service that uses
//! [Claviger](claviger).
//!
//! | route | function | response |
//! |---|---|---|
//! | `GET /livez` | [`probes`] | 200 while the process responds, independent of databases |
//! | `GET /readyz` | [`probes`] | 200 while every credential is valid and verified, else 503 |
//! | `GET /status` | [`status`] | the whole [`Status`](claviger::status::Status); never mounted by default |
//!
//! All bodies are JSON. That of `/readyz` lists the reasons. None of them contains a secret.
//! `/status` contains the names of providers and pools, and error messages of the database: serve
//! it to operators only.
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
//! let operators: Router = claviger_axum::status(&supervisor);
//! # drop((service, operators));
//! # }
//! ```

mod probes;

pub use probes::{probes, status};
