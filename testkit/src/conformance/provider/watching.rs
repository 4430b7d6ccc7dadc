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
use crate::conformance::tools::drop_after_polls;

pub(super) fn checks<P: Provider, C: ProviderControls<P>>() -> Vec<Planned<World<P, C>>> {
    vec![
        planned(
            "watch_may_be_dropped_and_restarted",
            "Provider::watch: \"is restarted with backoff when it ends or panics\", and \"Dropped \
             at an await point when the provider is removed\"",
            watch_may_be_dropped_and_restarted,
        ),
        planned(
            "a_changed_credential_causes_a_hint",
            "Hints: \"Reports from a provider's background work that the backend may have a new \
             credential\"",
            a_changed_credential_causes_a_hint,
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
    // The last one runs for a while.
    let _ = timeout(WATCH, world.provider.watch(Hints::new(|| {}))).await;
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

async fn a_changed_credential_causes_a_hint<P: Provider, C: ProviderControls<P>>(
    world: World<P, C>,
) -> CheckResult {
    require_hints(&world)?;
    world.first().await?;
    let (hints, hinted) = observed_hints();
    let changed = async {
        // A watch may hint when it begins, so only a later one counts.
        sleep(WATCH).await;
        let _ = timeout(WATCH, hinted.notified()).await;
        change(&world).await?;
        let expected = "a hint after the credential was changed";
        let hint = timeout(STEP, hinted.notified()).await;
        hint.map_err(|_| failed(expected, "none within 10 s"))
    };
    tokio::select! {
        biased;
        changed = changed => changed,
        () = world.provider.watch(hints) => Err(failed("`watch` runs", "it ended by itself")),
    }
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
