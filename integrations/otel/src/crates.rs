//! Crates whose spans and events are treated apart.

/// Claviger's actors run in ractor, which opens a span as long as an actor's life: all that has no
/// parent would be in it, and none be exported before the end.
pub(crate) const LIFE_LONG: Crates = Crates(&["ractor"]);

/// OpenTelemetry's own: its macros name a target as the package is named, `tracing`'s as the crate.
pub(crate) const SDK: Crates = Crates(&[
    "opentelemetry",
    "opentelemetry_sdk",
    "opentelemetry-otlp",
    "opentelemetry_otlp",
    "opentelemetry-http",
    "opentelemetry_http",
]);

/// What sends the spans: its own spans would be sent in turn.
pub(crate) const EXPORTER: Crates = Crates(&["reqwest", "hyper", "hyper_util", "h2", "rustls"]);

/// Crates by the first part of their targets, the whole of it: `h2` has `h2::client`, and not
/// `h2_thing`. The filters of `tracing-subscriber` go by prefixes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crates(&'static [&'static str]);

impl Crates {
    pub(crate) fn have(self, target: &str) -> bool {
        let of = target.split_once("::").map_or(target, |(of, _)| of);
        self.0.contains(&of)
    }

    /// Whether a directive of `RUST_LOG` is about one of them.
    pub(crate) fn are_named_in(self, said: &str) -> bool {
        said.split(',').any(|directive| {
            self.have(
                directive
                    .split(['=', '['])
                    .next()
                    .unwrap_or_default()
                    .trim(),
            )
        })
    }
}
