//! What is exported and what is logged.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// Claviger's actors run in ractor, which opens a span as long as an actor's life: all that has no parent would be in it, and none be exported
/// before the end.
const LIFE_LONG: &str = "ractor";

/// What sends the spans: its own spans would be sent in turn.
const EXPORTER: [&str; 6] = ["opentelemetry", "reqwest", "hyper", "hyper_util", "h2", "rustls"];

/// Spans and events from INFO on.
pub(crate) fn exported() -> Targets {
    let targets = Targets::new().with_default(LevelFilter::INFO);
    [LIFE_LONG].into_iter().chain(EXPORTER).fold(targets, |targets, target| targets.with_target(target, LevelFilter::OFF))
}

/// What `RUST_LOG` says, INFO where it says nothing.
pub(crate) fn logged() -> EnvFilter {
    let said = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse_lossy(&said);
    match format!("{LIFE_LONG}=off").parse() {
        Ok(off) if !said.contains(LIFE_LONG) => filter.add_directive(off),
        _ => filter,
    }
}
