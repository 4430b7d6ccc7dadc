//! What is exported and what is logged.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, LevelFilter, Targets};
use tracing_subscriber::layer::Filter;

use crate::quiet::Quiet;

/// Claviger's actors run in ractor, which opens a span as long as an actor's life: all that has no parent would be in it, and none be exported
/// before the end.
const LIFE_LONG: &str = "ractor";

/// All of OpenTelemetry's own targets begin so.
const SDK: &str = "opentelemetry";

/// What sends the spans: its own spans would be sent in turn.
const EXPORTER: [&str; 6] = [SDK, "reqwest", "hyper", "hyper_util", "h2", "rustls"];

/// Spans and events from INFO on.
pub(crate) fn exported() -> Targets {
    let targets = Targets::new().with_default(LevelFilter::INFO);
    [LIFE_LONG].into_iter().chain(EXPORTER).fold(targets, |targets, target| targets.with_target(target, LevelFilter::OFF))
}

/// What `RUST_LOG` says, INFO where it says nothing. The exporter's part is told from WARN on, and seldom, unless it is named there.
pub(crate) fn logged<S: 'static>() -> Box<dyn Filter<S> + Send + Sync> {
    let said = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse_lossy(&said);
    let unnamed = |filter: EnvFilter, target: &str, level: &str| match format!("{target}={level}").parse() {
        Ok(directive) if !said.contains(target) => filter.add_directive(directive),
        _ => filter,
    };
    let filter = unnamed(unnamed(filter, LIFE_LONG, "off"), SDK, "warn");
    if said.contains(SDK) { Box::new(filter) } else { Box::new(filter.and(Quiet::new(SDK))) }
}
