//! Crates whose spans and events are treated separately.

/// The crate of Claviger's actors. It opens a span for the lifetime of each actor. Spans without a
/// parent would become its children and be exported only with it.
pub(crate) const ACTORS: Crates = Crates(&["ractor"]);

/// OpenTelemetry's own crates. The target is the package's name with its own macros, and the
/// crate's name with those of `tracing`.
pub(crate) const SDK: Crates = Crates(&[
    "opentelemetry",
    "opentelemetry_sdk",
    "opentelemetry-otlp",
    "opentelemetry_otlp",
    "opentelemetry-http",
    "opentelemetry_http",
]);

/// The crates of the exporter. Exporting their spans would create further spans.
pub(crate) const EXPORTER: Crates = Crates(&["reqwest", "hyper", "hyper_util", "h2", "rustls"]);

/// Crates by the first segment of their targets: `h2` contains `h2::client`, but not `h2_thing`.
/// The filters of `tracing-subscriber` compare prefixes instead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crates(&'static [&'static str]);

impl Crates {
    pub(crate) fn contain(self, target: &str) -> bool {
        let first = target.split_once("::").map_or(target, |(first, _)| first);
        self.0.contains(&first)
    }

    /// Returns whether a directive of `RUST_LOG` names one of them.
    pub(crate) fn are_named_in(self, directives: &str) -> bool {
        directives.split(',').any(|directive| {
            self.contain(
                directive
                    .split(['=', '['])
                    .next()
                    .unwrap_or_default()
                    .trim(),
            )
        })
    }
}
