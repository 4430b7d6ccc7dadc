//! Checks of `watch`.

use std::sync::Arc;

use claviger::Provider;
use claviger::provider::Hints;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::ProviderControls;
use super::world::World;
use crate::conformance::runner::{
    CheckResult, Planned, STEP, WATCH, eventually, failed, not_applicable, planned, require,
};
use crate::conformance::tools::{drop_after_polls, is_pending};

pub(super) fn checks<P: Provider, C: ProviderControls<P>>() -> Vec<Planned<World<P, C>>> {
    vec![
        planned(
            "watch_may_be_dropped_and_restarted",
            "Provider::watch: \"is restarted with backoff when it ends or panics\", and \"Dropped \
             at an await point when the provider is removed\"",
            watch_may_be_dropped_and_restarted,
        ),
        planned(
            "an_unchanged_credential_causes_no_hint",
            "Hints: \"Reports from a provider's background work that the backend may have a new \
             credential\"",
            an_unchanged_credential_causes_no_hint,
        ),
        planned(
            "a_changed_credential_causes_a_hint",
            "Hints: \"Reports from a provider's background work that the backend may have a new \
             credential\"",
            a_changed_credential_causes_a_hint,
        ),
        planned(
            "a_change_before_the_watch_causes_a_hint",
            "Provider::watch: it \"is restarted with backoff\", and a change meanwhile is not lost",
            a_change_before_the_watch_causes_a_hint,
        ),
        planned(
            "a_dropped_watch_sends_no_hints",
            "Provider::watch: \"Dropped at an await point when the provider is removed\"",
            a_dropped_watch_sends_no_hints,
        ),
        planned(
            "a_hint_causes_a_fetch",
            "law 16: \"it only causes a fetch\"",
            a_hint_causes_a_fetch,
        ),
    ]
}

async fn watch_may_be_dropped_and_restarted<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    for polls in 1..=4 {
        let _ = drop_after_polls(polls, world.provider.watch(Hints::new(|| {}))).await;
    }
    let expected = "`watch` runs until it is dropped";
    let is_running = is_pending(world.provider.watch(Hints::new(|| {}))).await;
    require(is_running, expected, || {
        "it ended within 250 ms, so it would be restarted again and again".to_owned()
    })?;
    world.first().await.map(drop)
}

fn require_hints<P: Provider, C: ProviderControls<P>>(world: &World<P, C>) -> CheckResult {
    if world.controls.reports_changes() {
        return Ok(());
    }
    Err(not_applicable("`reports_changes` returns `false`"))
}

async fn change<P: Provider, C: ProviderControls<P>>(world: &World<P, C>) -> CheckResult {
    if world.controls.change_credential().await? {
        return Ok(());
    }
    Err(not_applicable("the controls have no `change_credential`"))
}

/// Runs `watch` beside `work`, and fails if it ends.
async fn while_watching<P: Provider, C: ProviderControls<P>>(
    world: &World<P, C>,
    work: impl AsyncFnOnce(&Notify) -> CheckResult,
) -> CheckResult {
    let (hints, hinted) = observed_hints();
    tokio::select! {
        biased;
        worked = work(&hinted) => worked,
        () = world.provider.watch(hints) => Err(failed("`watch` runs", "it ended by itself")),
    }
}

/// Waits while the watch begins. It may hint then.
async fn begin(hinted: &Notify) {
    sleep(WATCH).await;
    let _ = timeout(WATCH, hinted.notified()).await;
}

async fn require_hint(hinted: &Notify, cause: &str) -> CheckResult {
    let hint = timeout(STEP, hinted.notified()).await;
    hint.map_err(|_| failed(format!("a hint after {cause}"), "none within 10 s"))
}

async fn an_unchanged_credential_causes_no_hint<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    require_hints(&world)?;
    world.first().await?;
    while_watching(&world, async |hinted| {
        begin(hinted).await;
        let hint = timeout(4 * WATCH, hinted.notified()).await;
        let expected = "no hint for 1 s, because nothing changed at the backend";
        require(hint.is_err(), expected, || "one".to_owned())
    })
    .await
}

async fn a_changed_credential_causes_a_hint<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    require_hints(&world)?;
    world.first().await?;
    while_watching(&world, async |hinted| {
        begin(hinted).await;
        change(&world).await?;
        require_hint(hinted, "the credential was changed").await
    })
    .await
}

async fn a_change_before_the_watch_causes_a_hint<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    require_hints(&world)?;
    world.first().await?;
    change(&world).await?;
    while_watching(&world, async |hinted| {
        let cause = "`watch` began, because the credential was changed since the last fetch";
        require_hint(hinted, cause).await
    })
    .await
}

/// Returns hints, and what they notify.
fn observed_hints() -> (Hints, Arc<Notify>) {
    let hinted = Arc::new(Notify::new());
    let notify = Arc::clone(&hinted);
    (Hints::new(move || notify.notify_one()), hinted)
}

async fn a_dropped_watch_sends_no_hints<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    require_hints(&world)?;
    world.first().await?;
    let (hints, hinted) = observed_hints();
    let _ = timeout(WATCH, world.provider.watch(hints)).await;
    // One from before the drop does not count.
    let _ = timeout(WATCH, hinted.notified()).await;
    change(&world).await?;
    let hint = timeout(2 * WATCH, hinted.notified()).await;
    let expected = "no hint after `watch` was dropped";
    require(hint.is_err(), expected, || {
        "one, so its work continues in the background".to_owned()
    })
}

async fn a_hint_causes_a_fetch<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    require_hints(&world)?;
    world
        .supervised(async |supervisor, _provider| {
            let revision = || {
                let status = supervisor.status();
                status.providers.first().and_then(|it| it.revision.clone())
            };
            let before = revision();
            change(&world).await?;
            eventually("the changed credential is fetched", || async {
                Ok((revision() == before).then(|| "the one from before is current".to_owned()))
            })
            .await
        })
        .await
}
