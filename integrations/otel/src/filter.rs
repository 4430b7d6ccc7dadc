//! What is exported and what is logged.

use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, FilterFn, LevelFilter, filter_fn};
use tracing_subscriber::layer::Filter;

use crate::crates::{EXPORTER, LIFE_LONG, SDK};
use crate::quiet::Quiet;

/// Spans and events from INFO on.
pub(crate) fn exported<S: 'static>() -> impl Filter<S> {
    of_levels(LevelFilter::INFO, |told| {
        ![LIFE_LONG, SDK, EXPORTER]
            .into_iter()
            .any(|crates| crates.have(told))
    })
}

/// What `RUST_LOG` says, INFO where it says nothing. The SDK's part is logged from WARN on, and
/// seldom, unless it is named there.
pub(crate) fn logged<S: 'static>() -> Box<dyn Filter<S> + Send + Sync> {
    logged_as(&std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default())
}

fn logged_as<S: 'static>(said: &str) -> Box<dyn Filter<S> + Send + Sync> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse_lossy(said);
    let life_long = LIFE_LONG.are_named_in(said);
    let filter = filter.and(of_levels(LevelFilter::TRACE, move |told| {
        life_long || !LIFE_LONG.have(told)
    }));
    if SDK.are_named_in(said) {
        return Box::new(filter);
    }
    let others = filter.and(of_levels(LevelFilter::TRACE, |told| !SDK.have(told)));
    Box::new(others.or(of_levels(LevelFilter::WARN, |told| SDK.have(told)).and(Quiet::new(SDK))))
}

/// By the target, up to this level.
fn of_levels<F: Fn(&str) -> bool>(
    most: LevelFilter,
    is_meant: F,
) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    filter_fn(move |told: &Metadata<'_>| *told.level() <= most && is_meant(told.target()))
        .with_max_level_hint(most)
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

    /// The targets that pass, of one line each at INFO.
    fn told(
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
        let told = targets.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.clone()
    }

    #[test]
    fn what_is_not_exported_is_named_in_whole() {
        assert_eq!(
            told(exported()),
            [
                "h2_thing",
                "hyperlocal",
                "ractor_of_mine",
                "opentelemetry_shop"
            ]
        );
    }

    #[test]
    fn what_is_not_logged_is_named_in_whole_and_so_is_what_the_user_asks_for() {
        let others = [
            "h2",
            "h2::client",
            "h2_thing",
            "hyper::proto",
            "hyperlocal",
            "ractor_of_mine",
            "opentelemetry_shop",
        ];
        for said in [
            "",
            "info,contractor=debug",
            "info,my_opentelemetry=debug,subtractor=trace",
            "info,opentelemetry_shop=debug",
        ] {
            assert_eq!(told(logged_as(said)), others, "{said}");
        }
        let with = |said: &str, target: &str| told(logged_as(said)).contains(&target);
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
