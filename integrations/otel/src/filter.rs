//! Filters of exported spans and of log lines.

use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, FilterFn, LevelFilter, filter_fn};
use tracing_subscriber::layer::Filter;

use crate::crates::{ACTORS, EXPORTER, SDK};
use crate::quiet::Quiet;

/// Exports spans and events from INFO on, without those of actors, the SDK and the exporter.
pub(crate) fn exported<S: 'static>() -> impl Filter<S> {
    up_to_level(LevelFilter::INFO, |target| {
        ![ACTORS, SDK, EXPORTER]
            .into_iter()
            .any(|crates| crates.contain(target))
    })
}

/// Applies `RUST_LOG`, by default INFO. Lines of the SDK are logged from WARN on and rarely, unless
/// `RUST_LOG` names it.
pub(crate) fn logged<S: 'static>() -> Box<dyn Filter<S> + Send + Sync> {
    logged_as(&std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default())
}

fn logged_as<S: 'static>(directives: &str) -> Box<dyn Filter<S> + Send + Sync> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse_lossy(directives);
    let actors = ACTORS.are_named_in(directives);
    let filter = filter.and(up_to_level(LevelFilter::TRACE, move |target| {
        actors || !ACTORS.contain(target)
    }));
    if SDK.are_named_in(directives) {
        return Box::new(filter);
    }
    let others = filter.and(up_to_level(LevelFilter::TRACE, |target| {
        !SDK.contain(target)
    }));
    Box::new(
        others
            .or(up_to_level(LevelFilter::WARN, |target| SDK.contain(target)).and(Quiet::new(SDK))),
    )
}

/// Accepts targets that match, up to this level.
fn up_to_level<F: Fn(&str) -> bool>(
    max_level: LevelFilter,
    matches: F,
) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    filter_fn(move |metadata: &Metadata<'_>| {
        *metadata.level() <= max_level && matches(metadata.target())
    })
    .with_max_level_hint(max_level)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;

    #[derive(Clone, Default)]
    struct Targets(Arc<Mutex<Vec<&'static str>>>);

    impl<S: tracing::Subscriber> Layer<S> for Targets {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            self.0.lock().push(event.metadata().target());
        }
    }

    /// Returns the targets that the filter accepts, of one line at INFO for each.
    fn accepted_targets(
        filter: impl Filter<tracing_subscriber::Registry> + Send + Sync + 'static,
    ) -> Vec<&'static str> {
        let targets = Targets::default();
        tracing::subscriber::with_default(
            tracing_subscriber::registry().with(targets.clone().with_filter(filter)),
            || {
                tracing::info!(target: "h2", "");
                tracing::info!(target: "h2::client", "");
                tracing::info!(target: "h2_thing", "");
                tracing::info!(target: "hyper::proto", "");
                tracing::info!(target: "hyperlocal", "");
                tracing::info!(target: "ractor::actor", "");
                tracing::info!(target: "ractor_of_mine", "");
                tracing::info!(target: "opentelemetry-otlp", "");
                tracing::info!(target: "opentelemetry_sdk::trace", "");
                tracing::info!(target: "opentelemetry_shop", "");
            },
        );
        let targets = targets.0.lock();
        targets.clone()
    }

    #[test]
    fn spans_of_actors_sdk_and_exporter_are_not_exported() {
        assert_eq!(
            accepted_targets(exported()),
            [
                "h2_thing",
                "hyperlocal",
                "ractor_of_mine",
                "opentelemetry_shop"
            ]
        );
    }

    #[test]
    fn lines_of_actors_and_sdk_are_logged_only_if_rust_log_names_them() {
        let others = [
            "h2",
            "h2::client",
            "h2_thing",
            "hyper::proto",
            "hyperlocal",
            "ractor_of_mine",
            "opentelemetry_shop",
        ];
        for directives in [
            "",
            "info,contractor=debug",
            "info,my_opentelemetry=debug,subtractor=trace",
            "info,opentelemetry_shop=debug",
        ] {
            assert_eq!(
                accepted_targets(logged_as(directives)),
                others,
                "{directives}"
            );
        }
        let with = |directives: &str, target: &str| {
            accepted_targets(logged_as(directives)).contains(&target)
        };
        assert!(
            !with("shop=debug", "h2"),
            "a target that RUST_LOG does not name is not logged"
        );
        assert!(
            with("ractor=info", "ractor::actor")
                && !with("ractor=info", "opentelemetry_sdk::trace")
        );
        assert!(with("info, ractor::actor=debug", "ractor::actor"));
        assert!(
            with("warn,opentelemetry=info", "opentelemetry-otlp")
                && with("opentelemetry_sdk[a]=info,info", "opentelemetry_sdk::trace")
        );
    }
}
