//! A backend in memory, and a provider that is correct except for one defect.

use std::collections::HashSet;
use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::lease::{Expiry, Timestamp};
use claviger::provider::{FetchRequest, Fetched, Hints};
use claviger::report::RotationTrigger;
use claviger::{Credentials, Lease, Provider, Revision};
use claviger_testkit::conformance::{ControlError, ProviderControls};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

pub(crate) const LIFETIME: Duration = Duration::from_secs(900);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProviderDefect {
    FetchFails,
    FetchPanics,
    ReturnsUnchangedAlways,
    RevisionPerFetch,
    OneRevision,
    ReturnsTheFirst,
    ChangesOnlyOnManual,
    RenewsOnManual,
    FailsWhenRejected,
    ReturnsExpired,
    RefreshesTooLate,
    ReadsTheSystemClock,
    RenewHangs,
    RenewReturnsAnExpiredLease,
    RenewCreatesACredential,
    RehearseHangs,
    RehearseChangesThePassword,
    FetchBlocks,
    KeepsTheLockOfADroppedFetch,
    OutageIsUnnoticed,
    OutageIsPermanent,
    OutagePanics,
    StaysDown,
    DebugShowsThePassword,
    ErrorShowsThePassword,
    RevisionIsThePassword,
    WatchRunsOnce,
    WatchEndsAtOnce,
    WatchIgnoresEarlierChanges,
    HintsWithoutAChange,
    ReportsNoChanges,
    WatchOutlivesItsDrop,
    ReleaseHangs,
    ReleaseTwiceFails,
    ReleaseDoesNothing,
    ReleasesTwice,
    ReleasesTheLatest,
    ReleaseHidesItsError,
    FetchFailsAfterRelease,
    CloseHangs,
}

#[derive(Debug)]
struct State {
    available: bool,
    released: u32,
    /// Secrets that are no longer accepted.
    ended: HashSet<String>,
}

/// Clones share one backend.
#[derive(Clone, Debug)]
pub(crate) struct MemoryBackend {
    state: Arc<Mutex<State>>,
    version: watch::Sender<u32>,
}

impl MemoryBackend {
    pub(crate) fn new() -> Self {
        let state = State {
            available: true,
            released: 0,
            ended: HashSet::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            version: watch::Sender::new(1),
        }
    }
}

pub(crate) struct MemoryProvider {
    backend: MemoryBackend,
    defect: Option<ProviderDefect>,
    fetching: AtomicBool,
    was_down: AtomicBool,
    has_returned: AtomicBool,
    is_watched: AtomicBool,
    released: Mutex<Vec<Revision>>,
    counter: Mutex<u32>,
    last_password: Mutex<String>,
    /// The version that the last fetch returned.
    fetched: Mutex<Option<u32>>,
}

impl MemoryProvider {
    pub(crate) fn new(backend: MemoryBackend, defect: Option<ProviderDefect>) -> Self {
        Self {
            backend,
            defect,
            fetching: AtomicBool::new(false),
            was_down: AtomicBool::new(false),
            has_returned: AtomicBool::new(false),
            is_watched: AtomicBool::new(false),
            released: Mutex::default(),
            counter: Mutex::default(),
            last_password: Mutex::default(),
            fetched: Mutex::default(),
        }
    }

    fn has(&self, defect: ProviderDefect) -> bool {
        self.defect == Some(defect)
    }

    fn outage(&self) -> ProviderError {
        self.was_down.store(true, Ordering::Release);
        let kind = if self.has(ProviderDefect::OutageIsPermanent) {
            ProviderErrorKind::NotFound
        } else {
            ProviderErrorKind::Unavailable
        };
        if self.has(ProviderDefect::ErrorShowsThePassword) {
            return ProviderError::new(kind, format!("last: {}", self.last_password.lock()));
        }
        ProviderError::new(kind, "connection refused")
    }

    fn lease(&self, request: &FetchRequest<Credentials>) -> Lease<Credentials> {
        let version = if self.has(ProviderDefect::ReturnsTheFirst) {
            1
        } else {
            *self.backend.version.borrow()
        };
        *self.fetched.lock() = Some(version);
        let password = format!("s3cret-{version}");
        password.clone_into(&mut self.last_password.lock());
        let revision = match self.defect {
            Some(ProviderDefect::RevisionPerFetch) => {
                let mut counter = self.counter.lock();
                *counter += 1;
                counter.to_string()
            }
            Some(ProviderDefect::OneRevision) => "1".to_owned(),
            Some(ProviderDefect::RevisionIsThePassword) => password.clone(),
            _ => version.to_string(),
        };
        let expiry = match self.defect {
            Some(ProviderDefect::ReturnsExpired) => Expiry::after(request.started, Duration::ZERO),
            Some(ProviderDefect::ReadsTheSystemClock) => Expiry::after(Timestamp::now(), LIFETIME),
            _ => Expiry::after(request.started, LIFETIME),
        };
        let lease = Lease::new(Credentials::new("app", password), Revision::new(revision));
        let lease = lease.with_expiry(expiry);
        if self.has(ProviderDefect::RefreshesTooLate) {
            return lease.with_refresh_after(LIFETIME * 2);
        }
        lease
    }
}

impl fmt::Debug for MemoryProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("MemoryProvider");
        if self.has(ProviderDefect::DebugShowsThePassword) {
            debug.field("last", &*self.last_password.lock());
        }
        debug.finish_non_exhaustive()
    }
}

impl Provider for MemoryProvider {
    type Secret = Credentials;

    #[expect(clippy::panic, reason = "the defect requests it")]
    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        let other = |message: &str| ProviderError::new(ProviderErrorKind::Other, message);
        if self.fetching.swap(true, Ordering::AcqRel)
            && self.has(ProviderDefect::KeepsTheLockOfADroppedFetch)
        {
            return Err(other("another fetch is running"));
        }
        sleep(Duration::from_millis(1)).await;
        if self.has(ProviderDefect::FetchBlocks) {
            std::thread::sleep(Duration::from_millis(400));
        }
        self.fetching.store(false, Ordering::Release);
        let available = self.backend.state.lock().available;
        match self.defect {
            Some(ProviderDefect::FetchFails) => return Err(other("no")),
            Some(ProviderDefect::FetchPanics) => panic!("scripted panic"),
            Some(ProviderDefect::OutagePanics) if !available => panic!("scripted panic"),
            Some(ProviderDefect::OutageIsUnnoticed) => {}
            Some(ProviderDefect::StaysDown) if self.was_down.load(Ordering::Acquire) => {
                return Err(self.outage());
            }
            Some(ProviderDefect::FetchFailsAfterRelease) if !self.released.lock().is_empty() => {
                return Err(other("the session was released"));
            }
            Some(ProviderDefect::FailsWhenRejected) if !request.rejected.is_empty() => {
                return Err(other("no other candidate"));
            }
            _ if !available => return Err(self.outage()),
            _ => {}
        }
        let lease = self.lease(&request);
        let remembers = self.has(ProviderDefect::ReturnsUnchangedAlways)
            && self.has_returned.swap(true, Ordering::AcqRel);
        let keeps = self.has(ProviderDefect::ChangesOnlyOnManual)
            && request.trigger != RotationTrigger::Manual
            && request.current.is_some();
        if remembers || keeps {
            return Ok(Fetched::Unchanged);
        }
        let current = request.current.as_ref().map(Lease::revision);
        if current == Some(lease.revision()) {
            return Ok(match request.trigger {
                RotationTrigger::Manual if !self.has(ProviderDefect::RenewsOnManual) => {
                    lease.into()
                }
                _ => Fetched::Renewed(lease.expiry()),
            });
        }
        Ok(lease.into())
    }

    async fn renew(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Option<Expiry>, ProviderError> {
        match self.defect {
            Some(ProviderDefect::RenewHangs) => pending().await,
            Some(ProviderDefect::RenewReturnsAnExpiredLease) => {
                return Ok(Some(Expiry::after(request.started, Duration::ZERO)));
            }
            Some(ProviderDefect::RenewCreatesACredential) => {
                self.backend.version.send_modify(|version| *version += 1);
            }
            _ => {}
        }
        Ok(Some(Expiry::after(request.started, LIFETIME)))
    }

    async fn rehearse(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        match (self.defect, &request.current) {
            (Some(ProviderDefect::RehearseHangs), _) => pending().await,
            (Some(ProviderDefect::RehearseChangesThePassword), Some(current)) => {
                let old = current.secret().expose_password().to_owned();
                self.backend.state.lock().ended.insert(old);
                self.backend.version.send_modify(|version| *version += 1);
            }
            _ => {}
        }
        self.fetch(request).await
    }

    async fn release(&self, lease: Lease<Credentials>) -> Result<(), ProviderError> {
        if self.has(ProviderDefect::ReleaseHangs) {
            pending::<()>().await;
        }
        if !self.backend.state.lock().available {
            return match self.defect {
                Some(ProviderDefect::ReleaseHidesItsError) => Ok(()),
                _ => Err(self.outage()),
            };
        }
        let mut released = self.released.lock();
        let is_repeated = released.contains(lease.revision());
        released.push(lease.revision().clone());
        if is_repeated && self.has(ProviderDefect::ReleaseTwiceFails) {
            return Err(ProviderError::new(
                ProviderErrorKind::Other,
                "no such lease",
            ));
        }
        let mut state = self.backend.state.lock();
        let secret = match self.defect {
            Some(ProviderDefect::ReleaseDoesNothing) => return Ok(()),
            Some(ProviderDefect::ReleasesTheLatest) => self.last_password.lock().clone(),
            _ => lease.secret().expose_password().to_owned(),
        };
        state.ended.insert(secret);
        state.released += match self.defect {
            Some(ProviderDefect::ReleasesTwice) => 2,
            _ => 1,
        };
        Ok(())
    }

    #[expect(clippy::panic, reason = "the defect requests it")]
    async fn watch(&self, hints: Hints) {
        if self.is_watched.swap(true, Ordering::AcqRel) && self.has(ProviderDefect::WatchRunsOnce) {
            panic!("it is watched already");
        }
        if self.has(ProviderDefect::WatchEndsAtOnce) {
            return;
        }
        let mut version = self.backend.version.subscribe();
        let fetched = *self.fetched.lock();
        let ignores_earlier_changes = self.has(ProviderDefect::WatchIgnoresEarlierChanges);
        if fetched.is_some_and(|fetched| fetched != *version.borrow_and_update())
            && !ignores_earlier_changes
        {
            version.mark_changed();
        }
        let reports = !self.has(ProviderDefect::ReportsNoChanges);
        let interval = match self.defect {
            Some(ProviderDefect::HintsWithoutAChange) => Duration::from_millis(100),
            _ => Duration::MAX,
        };
        let watching = async move {
            while !matches!(timeout(interval, version.changed()).await, Ok(Err(_))) {
                if reports {
                    hints.changed();
                }
            }
        };
        if self.has(ProviderDefect::WatchOutlivesItsDrop) {
            let _ = tokio::spawn(watching).await;
        } else {
            watching.await;
        }
    }

    async fn close(&self) {
        if self.has(ProviderDefect::CloseHangs) {
            pending::<()>().await;
        }
    }
}

impl ProviderControls<MemoryProvider> for MemoryBackend {
    fn secret_text(&self, secret: &Credentials) -> String {
        secret.expose_password().to_owned()
    }

    async fn change_credential(&self) -> Result<bool, ControlError> {
        self.version.send_modify(|version| *version += 1);
        Ok(true)
    }

    async fn set_available(&self, available: bool) -> Result<bool, ControlError> {
        self.state.lock().available = available;
        Ok(true)
    }

    async fn released(&self) -> Result<Option<u32>, ControlError> {
        Ok(Some(self.state.lock().released))
    }

    async fn is_accepted(&self, secret: &Credentials) -> Result<Option<bool>, ControlError> {
        let is_ended = self.state.lock().ended.contains(secret.expose_password());
        Ok(Some(!is_ended))
    }

    fn reports_changes(&self) -> bool {
        true
    }

    fn lifetime(&self) -> Option<Duration> {
        Some(LIFETIME)
    }
}
