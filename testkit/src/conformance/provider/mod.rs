//! The checks of providers.

mod ending;
mod failing;
mod fetching;
mod watching;
mod world;

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use claviger::Provider;

use super::report::Report;
use super::runner::{CHECK_LIMIT, ControlError, Plan, Planned, run_plan};
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

fn checks<P: Provider, C: ProviderControls<P>>() -> Vec<Planned<World<P, C>>> {
    [
        fetching::checks(),
        failing::checks(),
        watching::checks(),
        ending::checks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
