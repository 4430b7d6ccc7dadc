//! Filters of exported spans and of log lines.

use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, FilterFn, LevelFilter, filter_fn};
use tracing_subscriber::layer::Filter;

use crate::crates::{ACTORS, EXPORTER, SDK};
use crate::quiet::Quiet;

/// Passes spans and events from INFO on.
pub(crate) fn exported<S: 'static>() -> impl Filter<S> {
    of_levels(LevelFilter::INFO, |passed_targets| {
        ![ACTORS, SDK, EXPORTER]
            .into_iter()
            .any(|crates| crates.contain(passed_targets))
    })
}

/// Applies `RUST_LOG`, by default INFO. Lines of the SDK pass from WARN on and rarely, unless it is
/// named there.
pub(crate) fn logged<S: 'static>() -> Box<dyn Filter<S> + Send + Sync> {
    logged_as(&std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default())
}

fn logged_as<S: 'static>(directives: &str) -> Box<dyn Filter<S> + Send + Sync> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse_lossy(directives);
    let actors = ACTORS.are_named_in(directives);
    let filter = filter.and(of_levels(LevelFilter::TRACE, move |passed_targets| {
        actors || !ACTORS.contain(passed_targets)
    }));
    if SDK.are_named_in(directives) {
        return Box::new(filter);
    }
    let others = filter.and(of_levels(LevelFilter::TRACE, |passed_targets| {
        !SDK.contain(passed_targets)
    }));
    Box::new(
        others.or(of_levels(LevelFilter::WARN, |passed_targets| {
            SDK.contain(passed_targets)
        })
        .and(Quiet::new(SDK))),
    )
}

/// Passes targets that match, up to this level.
fn of_levels<F: Fn(&str) -> bool>(
    max_level: LevelFilter,
    matches: F,
) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    filter_fn(move |passed_targets: &Metadata<'_>| {
        *passed_targets.level() <= max_level && matches(passed_targets.target())
    })
    .with_max_level_hint(max_level)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, PoisonError};

    use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

    use super::*;

    #[derive(Clone, Default)]
    struct Targets(Arc<Mutex<Vec<&'static str>>>);

    impl<S: tracing::Subscriber> Layer<S> for Targets {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(event.metadata().target());
        }
    }

    /// Returns the targets that pass, each with one line at INFO.
    fn passed_targets(
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
        let passed_targets = targets.0.lock().unwrap_or_else(PoisonError::into_inner);
        passed_targets.clone()
    }

    #[test]
    fn only_named_crates_are_not_exported() {
        assert_eq!(
            passed_targets(exported()),
            [
                "h2_thing",
                "hyperlocal",
                "ractor_of_mine",
                "opentelemetry_shop"
            ]
        );
    }

    #[test]
    fn only_named_crates_are_not_logged_unless_requested() {
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
                passed_targets(logged_as(directives)),
                others,
                "{directives}"
            );
        }
        let with = |directives: &str, target: &str| {
            passed_targets(logged_as(directives)).contains(&target)
        };
        assert!(
            !with("shop=debug", "h2"),
            "what is not named is left out, as ever"
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
