//! A web service for a cluster, in three parts to copy:
//!
//! - `routes`: the state of handlers, and Kubernetes probes;
//! - `metrics`: Claviger's metrics for Prometheus;
//! - `serve`: from the first request to a shutdown that completes every request and releases every
//!   credential.
//!
//! `main.rs` combines them.

mod metrics;
mod routes;
mod serve;

pub use metrics::Metrics;
pub use routes::Service;
pub use serve::{Bounds, serve};

/// The error with which a program ends.
pub type Problem = Box<dyn std::error::Error + Send + Sync>;
