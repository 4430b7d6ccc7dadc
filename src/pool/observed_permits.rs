//! Login permits that a test withholds and counts.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

use super::login_permits::{
    LoginOutcome, LoginPermit, LoginPermits, Permission, PermitSource, Validity,
};

type OnError = Box<dyn Fn(&(dyn StdError + 'static)) + Send + Sync>;

/// Permits for a pool without a supervisor. Clones share the counts.
#[derive(Clone)]
pub struct ObservedPermits {
    state: Arc<State>,
}

struct State {
    withheld: watch::Sender<bool>,
    expired: watch::Sender<bool>,
    granted: AtomicUsize,
    on_error: OnError,
}

impl ObservedPermits {
    /// Creates permits that call `on_error` with the error of each failed login.
    pub fn new(on_error: impl Fn(&(dyn StdError + 'static)) + Send + Sync + 'static) -> Self {
        Self {
            state: Arc::new(State {
                withheld: watch::Sender::new(false),
                expired: watch::Sender::new(false),
                granted: AtomicUsize::new(0),
                on_error: Box::new(on_error),
            }),
        }
    }

    /// Returns the interface for [`PoolFactory::open`](super::PoolFactory::open).
    pub fn login_permits(&self) -> LoginPermits {
        LoginPermits::new(self.clone())
    }

    /// Makes logins wait for a permit until this is set to `false`.
    pub fn withhold(&self, withheld: bool) {
        self.state.withheld.send_replace(withheld);
    }

    /// Sets whether the credentials count as expired for
    /// [`until_valid`](LoginPermits::until_valid).
    pub fn set_expired(&self, expired: bool) {
        self.state.expired.send_replace(expired);
    }

    /// Returns how many permits were granted.
    pub fn granted(&self) -> usize {
        self.state.granted.load(Ordering::Acquire)
    }
}

impl fmt::Debug for ObservedPermits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedPermits")
            .field("granted", &self.granted())
            .finish_non_exhaustive()
    }
}

impl PermitSource for ObservedPermits {
    fn permit(&self) -> Permission<'_> {
        Box::pin(async move {
            let mut withheld = self.state.withheld.subscribe();
            withheld.wait_for(|withheld| !withheld).await.ok()?;
            self.state.granted.fetch_add(1, Ordering::AcqRel);
            Some(LoginPermit {
                generation: Some(1),
                ..LoginPermit::default()
            })
        })
    }

    fn until_valid(&self) -> Validity<'_> {
        Box::pin(async move {
            let mut expired = self.state.expired.subscribe();
            // Fails only without a sender, which this value owns.
            let _ = expired.wait_for(|expired| !expired).await;
        })
    }

    fn note_login(&self, _: u64, outcome: LoginOutcome<'_>) {
        if let LoginOutcome::Failed(error) = outcome {
            (self.state.on_error)(error);
        }
    }
}
