//! The checks of providers.

mod ending;
mod failing;
mod fetching;
mod renewing;
mod watching;
mod world;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use claviger::Provider;

use super::report::Report;
use super::runner::{CHECK_LIMIT, ControlError, Plan, Planned, basic_first, run_plan};
use world::World;

/// Actions of the kit on the backend behind a provider.
///
/// An error of a control fails the check that needed it. Blocking calls are allowed.
pub trait ProviderControls<P: Provider>: Send + Sync + 'static {
    /// Returns the part of a secret that must never be shown: the password or token. It must have
    /// at least six characters, because shorter texts occur by chance and are not searched for.
    fn secret_text(&self, secret: &P::Secret) -> String;

    /// Changes the credential at the backend. Returns whether the controls can do so. Default:
    /// `false`, as for a credential that never changes.
    fn change_credential(&self) -> impl Future<Output = Result<bool, ControlError>> + Send {
        async { Ok(false) }
    }

    /// Makes the backend unavailable (`false`) or available again (`true`). Returns whether the
    /// controls can do so. Default: `false`, as for a provider without a backend.
    fn set_available(
        &self,
        available: bool,
    ) -> impl Future<Output = Result<bool, ControlError>> + Send {
        let _ = available;
        async { Ok(false) }
    }

    /// Returns how many leases were released at the backend so far. Default: `None`, if a release
    /// does nothing there.
    fn released(&self) -> impl Future<Output = Result<Option<u32>, ControlError>> + Send {
        async { Ok(None) }
    }

    /// Returns whether the backend accepts this secret now. Default: `None`, if the controls cannot
    /// find out.
    fn is_accepted(
        &self,
        secret: &P::Secret,
    ) -> impl Future<Output = Result<Option<bool>, ControlError>> + Send {
        let _ = secret;
        async { Ok(None) }
    }

    /// Returns whether each fetch without a current lease returns another credential, as for tokens
    /// and dynamic users. Default: `false`.
    fn creates_credentials(&self) -> bool {
        false
    }

    /// Returns whether the error of an unavailable backend ends by itself. Default: `true`. A file
    /// that was removed is an error that does not.
    fn is_outage_transient(&self) -> bool {
        true
    }

    /// Returns whether [`Provider::watch`] reports a changed credential within seconds. Default:
    /// `false`.
    fn reports_changes(&self) -> bool {
        false
    }

    /// Returns the lifetime of each credential from the start of its fetch, if it is known.
    /// Default: `None`.
    fn lifetime(&self) -> Option<Duration> {
        None
    }

    /// Returns the reason why a check does not apply to this provider. Default: `None`, all apply.
    fn not_applicable(&self, check: &str) -> Option<String> {
        let _ = check;
        None
    }
}

/// The checks of a provider, to be awaited. Returned by [`provider`](super::provider).
#[must_use = "nothing runs before it is awaited"]
pub struct ProviderConformance<P, C> {
    provider: P,
    controls: C,
    limit: Duration,
    selected: Option<Vec<String>>,
}

impl<P: Provider, C: ProviderControls<P>> ProviderConformance<P, C> {
    pub(super) fn new(provider: P, controls: C) -> Self {
        Self {
            provider,
            controls,
            limit: CHECK_LIMIT,
            selected: None,
        }
    }

    /// Sets the time after which a check is aborted and has failed. Default: 1 min.
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Sets the names of the checks that run. Default: all.
    pub fn with_checks<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.selected = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Returns the names of all checks, in their order.
    pub fn names() -> Vec<&'static str> {
        checks::<P, C>().iter().map(|check| check.name).collect()
    }
}

impl<P, C> fmt::Debug for ProviderConformance<P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderConformance")
            .finish_non_exhaustive()
    }
}

impl<P: Provider, C: ProviderControls<P>> IntoFuture for ProviderConformance<P, C> {
    type Output = Report;
    type IntoFuture = Pin<Box<dyn Future<Output = Report> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let world = World::new(self.provider, self.controls);
        let (controls, secrets) = (Arc::clone(&world.controls), world.secrets.clone());
        let mut checks = checks();
        if let Some(selected) = self.selected {
            checks.retain(|check: &Planned<_>| selected.iter().any(|name| name == check.name));
        }
        Box::pin(run_plan(Plan {
            subject: std::any::type_name::<P>(),
            checks,
            world,
            limit: self.limit,
            secrets,
            excluded: Box::new(move |name| controls.not_applicable(name)),
        }))
    }
}

/// Basic checks, in their order. All others rest on them.
const BASIC: [&str; 5] = [
    "fetch_returns_a_lease",
    "a_fetch_without_a_current_lease_returns_one",
    "a_dropped_fetch_leaves_the_provider_usable",
    "a_fetch_after_a_release_returns_a_lease",
    "release_ends_and_may_be_repeated",
];

fn checks<P: Provider, C: ProviderControls<P>>() -> Vec<Planned<World<P, C>>> {
    let checks = [
        fetching::checks(),
        renewing::checks(),
        failing::checks(),
        watching::checks(),
        ending::checks(),
    ];
    let mut checks = basic_first(&BASIC, checks.into_iter().flatten().collect());
    for check in &mut checks {
        check.rest_on(rests_on(check.name).iter().copied());
    }
    checks
}

/// Returns the checks that this one rests on. It would fail with them for the same reason.
fn rests_on(name: &str) -> &'static [&'static str] {
    match name {
        "a_changed_credential_has_another_revision" => {
            &["fetch_returns_a_lease_despite_rejected_revisions"]
        }
        "lifetimes_count_from_the_request" => &["the_expiry_is_in_the_future"],
        "a_renewal_keeps_the_credential" | "a_rehearsal_changes_nothing_in_use" => {
            &["an_unchanged_credential_keeps_its_revision"]
        }
        "a_recovered_backend_returns_a_lease" => &[
            "an_unchanged_credential_keeps_its_revision",
            "an_unavailable_backend_is_an_error",
        ],
        "an_outage_keeps_the_lease_in_use" => &[
            "the_expiry_is_in_the_future",
            "an_unavailable_backend_is_an_error",
            "a_recovered_backend_returns_a_lease",
        ],
        "watch_may_be_dropped_and_restarted"
        | "release_reaches_the_backend"
        | "no_secret_is_shown" => &["a_recovered_backend_returns_a_lease"],
        "an_unchanged_credential_causes_no_hint"
        | "a_changed_credential_causes_a_hint"
        | "a_dropped_watch_sends_no_hints" => &["watch_may_be_dropped_and_restarted"],
        "a_change_before_the_watch_causes_a_hint" => &["a_changed_credential_causes_a_hint"],
        "a_hint_causes_a_fetch" => &[
            "the_expiry_is_in_the_future",
            "a_changed_credential_has_another_revision",
            "a_change_before_the_watch_causes_a_hint",
        ],
        "a_release_ends_its_own_lease_alone" => &[
            "a_changed_credential_has_another_revision",
            "release_reaches_the_backend",
        ],
        "a_release_that_fails_is_a_transient_error" => &[
            "an_unavailable_backend_is_an_error",
            "release_reaches_the_backend",
        ],
        "a_shutdown_releases_the_lease" => {
            &["the_expiry_is_in_the_future", "release_reaches_the_backend"]
        }
        _ => &[],
    }
}
