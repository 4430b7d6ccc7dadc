//! The supervisor's interface to a provider: start, requests, status, shutdown.

use std::sync::Arc;
use std::time::Instant;

use super::driver::ManualRequest;
use super::erased::BoxFuture;
use super::machine::ProviderInput;
use super::schedule;
use super::slot::ProviderSlot;
use crate::actor::Slot;
use crate::error::{ENDED_DURING_START, ProviderError, ProviderErrorKind};
use crate::report::RehearsalReport;
use crate::rotation::Rotation;
use crate::status::ProviderStatus;

impl<S: Send + Sync + 'static> ProviderSlot<S> {
    /// Waits for the first lease.
    ///
    /// # Errors
    /// A permanent error of a fetch, a lifetime too short for a handover, or the provider's end.
    pub(crate) async fn first_lease(&self) -> Result<(), ProviderError> {
        let settings = &self.context().settings;
        let (poll, fail_fast) = (settings.poll, settings.fail_fast);
        self.until(|machine| {
            if let Some((_, current)) = machine.current() {
                let problem = schedule::too_short(current, self.clock().now(), poll);
                let error = problem
                    .map(|problem| ProviderError::new(ProviderErrorKind::Misconfigured, problem));
                return Some(error.map_or(Ok(()), Err));
            }
            match machine.last_error() {
                Some(error) if fail_fast || !error.is_transient() => Some(Err(error.clone())),
                _ => machine.is_stopped().then(|| {
                    Err(ProviderError::new(
                        ProviderErrorKind::Other,
                        ENDED_DURING_START,
                    ))
                }),
            }
        })
        .await
    }
}

/// A provider of any secret.
pub(crate) trait ProviderObject: Send + Sync {
    fn status(&self) -> ProviderStatus;
    /// Returns the names of the pools that take its leases.
    fn pools(&self) -> Vec<Arc<str>>;
    fn request(self: Arc<Self>, request: ManualRequest);
    /// Rehearses a rotation, in the pool of that name or in all. Returns `None` if the provider
    /// ends.
    fn rehearse(
        self: Arc<Self>,
        pool: Option<Arc<str>>,
    ) -> BoxFuture<'static, Option<Result<RehearsalReport, ProviderError>>>;
    /// Begins or ends a hold.
    fn set_held(self: Arc<Self>, held: bool);
    /// Resolves when the rotation has ended.
    fn until_closed<'f>(&'f self, rotation: &'f Rotation) -> BoxFuture<'f, ()>;
    /// Stops fetching, and drops manual requests without a reply.
    fn stop_fetching(self: Arc<Self>);
    /// Resolves when no fetch runs.
    fn until_idle(&self) -> BoxFuture<'_, ()>;
    /// Releases all leases. Returns how many could not be released by the deadline.
    fn release_all(self: Arc<Self>, deadline: Instant) -> BoxFuture<'static, usize>;
    /// Closes the provider itself.
    fn close_provider(self: Arc<Self>) -> BoxFuture<'static, ()>;
}

impl<S: Send + Sync + 'static> ProviderObject for ProviderSlot<S> {
    fn status(&self) -> ProviderStatus {
        let pools = self.pools();
        let now = self.clock().now();
        let driver = self.lock();
        let machine = &driver.machine;
        let current = machine.current().map(|(_, current)| current);
        ProviderStatus {
            name: Arc::clone(self.name()),
            revision: current.map(|current| current.revision.digest()),
            expires: current.and_then(|current| current.expiry.wall()),
            remaining: current.and_then(|current| current.expiry.remaining(now)),
            rejected: machine.is_rejected(now.mono()),
            fetching: machine.is_fetching(),
            next_fetch: machine
                .next_fetch()
                .map(|at| at.saturating_duration_since(now.mono())),
            fetches: machine.fetches(),
            hanging: machine.hanging().len(),
            hanging_since: machine.hanging().map(|began| began.wall()).min(),
            lifetime: machine.lifetime(),
            held: machine.held_since().map(|since| since.wall()),
            last_error: machine.last_error().cloned(),
            last_rotation: driver.last_rotation.clone(),
            unreleased: machine.unreleased() - machine.kept(now.mono()),
            kept: machine.kept(now.mono()),
            pools,
            restarts: Slot::mailbox(self).restarts(),
        }
    }

    fn pools(&self) -> Vec<Arc<str>> {
        self.subscribers()
            .iter()
            .map(|pool| Arc::clone(pool.name()))
            .collect()
    }

    fn request(self: Arc<Self>, request: ManualRequest) {
        let id = self.lock().add_request(request);
        self.feed(ProviderInput::Manual(id));
    }

    fn rehearse(
        self: Arc<Self>,
        pool: Option<Arc<str>>,
    ) -> BoxFuture<'static, Option<Result<RehearsalReport, ProviderError>>> {
        Box::pin(Self::rehearse(self, pool))
    }

    fn set_held(self: Arc<Self>, held: bool) {
        self.feed(if held {
            ProviderInput::Hold
        } else {
            ProviderInput::Resume
        });
    }

    fn until_closed<'f>(&'f self, rotation: &'f Rotation) -> BoxFuture<'f, ()> {
        Box::pin(self.until(|_| rotation.is_closed().then_some(())))
    }

    fn stop_fetching(self: Arc<Self>) {
        self.feed(ProviderInput::Stop);
    }

    fn until_idle(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.until(|machine| (!machine.is_fetching()).then_some(())))
    }

    fn release_all(self: Arc<Self>, deadline: Instant) -> BoxFuture<'static, usize> {
        Box::pin(async move {
            self.feed(ProviderInput::Close);
            let released = self.until(|machine| (!machine.is_releasing()).then_some(()));
            let _ = tokio::time::timeout_at(deadline.into(), released).await;
            self.lock().machine.unreleased()
        })
    }

    fn close_provider(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.provider.close().await })
    }
}
