//! A web service as it runs in a cluster, in three parts that are worth copying:
//!
//! - `routes`: the state that handlers take, and Kubernetes' probes beside them;
//! - `metrics`: what Claviger counts, as a Prometheus scrapes it;
//! - `serve`: from the first request to an end in which every request is answered and every
//!   credential given back.
//!
//! `main.rs` puts them together.

mod metrics;
mod routes;
mod serve;

pub use metrics::Metrics;
pub use routes::Service;
pub use serve::{Bounds, serve};

/// What a program ends with that cannot go on.
pub type Problem = Box<dyn std::error::Error + Send + Sync>;
