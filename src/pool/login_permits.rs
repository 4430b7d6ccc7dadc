//! The interface by which a pool with a queue of its own requests permits to log in.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::login_limits::{Permits, with_head_start, without_caller_for_long};

/// Limits the logins of a pool with [its own queue](super::PoolSettings::own_queue).
///
/// The pool makes every login by [`log_in`](Self::log_in). That keeps a handover within the overlap
/// and a user within the login budget. It also limits logins to a full server. Clones limit the
/// same pool.
#[derive(Clone)]
pub struct LoginPermits {
    source: Arc<dyn PermitSource>,
}

/// Error of [`LoginPermits::log_in`].
#[derive(Debug)]
#[non_exhaustive]
pub enum LoginError<E> {
    /// The pool was replaced or removed, and opens no connections any more.
    Closed,
    /// The error of the login.
    Failed(E),
}

impl LoginPermits {
    pub(super) fn new(source: impl PermitSource + 'static) -> Self {
        Self {
            source: Arc::new(source),
        }
    }

    /// Waits for a permit and calls `login`, which reads the current credentials. The login runs in
    /// a task of its own. Its error is classified by
    /// [`PoolFactory::classify`](super::PoolFactory::classify), and a rejection is counted.
    ///
    /// While the credentials are rejected or expired, waits for newer ones. The first poll begins
    /// no login: [`PoolFactory::try_get`](super::PoolFactory::try_get) may poll the pool once.
    ///
    /// # Errors
    /// The error of the login, or [`LoginError::Closed`].
    ///
    /// # Cancel safety
    /// May be dropped while it waits for a permit. A login that has begun continues for up to 5 s,
    /// so that its result is counted. Its connection is then closed.
    pub async fn log_in<C, E, L>(
        &self,
        login: impl FnOnce() -> L + Send,
    ) -> Result<C, LoginError<E>>
    where
        C: Send + 'static,
        E: StdError + Send + Sync + 'static,
        L: Future<Output = Result<C, E>> + Send + 'static,
    {
        let waiting = Waiting::begin();
        tokio::task::yield_now().await;
        let permit = self.source.permit().await.ok_or(LoginError::Closed)?;
        drop(waiting);
        let login = login();
        let source = Arc::clone(&self.source);
        let (mut caller, present) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let (generation, head_start) = (permit.generation, permit.head_start);
            let login = with_head_start(login, permit.permits, head_start);
            let ended = tokio::select! {
                biased;
                ended = login => Some(ended),
                () = without_caller_for_long(&mut caller, None) => None,
            };
            let (result, permits) = ended.unzip();
            if let Some(generation) = generation {
                let outcome = match &result {
                    Some(Ok(_)) => LoginOutcome::Worked,
                    Some(Err(error)) => LoginOutcome::Failed(error),
                    None => LoginOutcome::Unknown,
                };
                source.note_login(generation, outcome);
            }
            // The result is noted before the next login gets a permit.
            drop((permits, permit.admitted));
            result
        });
        let ended = task.await;
        drop(present);
        match ended {
            Ok(Some(result)) => result.map_err(LoginError::Failed),
            // A panic of the login continues in its caller.
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime ends.
            Ok(None) | Err(_) => Err(LoginError::Closed),
        }
    }

    /// Waits until the pool's credentials are valid. Resolves at once if they have not expired, and
    /// otherwise when newer ones are active or the lease is extended.
    ///
    /// For drivers that open connections by themselves, without [`log_in`](Self::log_in). Wait
    /// before each such login, because none may use an expired lease. After
    /// [`update_in_place`](super::PoolFactory::update_in_place), these are the new credentials. A
    /// pool that was replaced gets no newer ones, and its wait never ends.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn until_valid(&self) {
        self.source.until_valid().await;
    }
}

impl fmt::Debug for LoginPermits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginPermits").finish_non_exhaustive()
    }
}

/// Result of a login.
pub(super) enum LoginOutcome<'e> {
    Worked,
    Failed(&'e (dyn StdError + 'static)),
    /// It outlasted its caller.
    Unknown,
}

/// Permit for one login.
#[derive(Default)]
pub(super) struct LoginPermit {
    /// Generation that counts the login. `None` before publication, because the handover limits and
    /// counts these logins.
    pub(super) generation: Option<u64>,
    /// Limits on callers' logins, and for how long the login keeps them.
    pub(super) permits: Permits,
    pub(super) head_start: Option<Duration>,
    /// Permit of the admission control while it is engaged.
    pub(super) admitted: Option<Box<dyn Send>>,
}

pub(super) type Permission<'s> = Pin<Box<dyn Future<Output = Option<LoginPermit>> + Send + 's>>;

pub(super) type Validity<'s> = Pin<Box<dyn Future<Output = ()> + Send + 's>>;

/// Source of permits, independent of the kind of pool.
pub(super) trait PermitSource: Send + Sync {
    /// Resolves with a permit, or with `None` when the pool is closed.
    fn permit(&self) -> Permission<'_>;
    /// Resolves when the pool's credentials are valid.
    fn until_valid(&self) -> Validity<'_>;
    fn note_login(&self, generation: u64, outcome: LoginOutcome<'_>);
}

tokio::task_local! {
    /// Whether the acquire of this task waits for a permit.
    pub(super) static WAITS_FOR_PERMIT: Arc<AtomicBool>;
}

/// Marks the wait for a permit, until dropped.
struct Waiting(Option<Arc<AtomicBool>>);

impl Waiting {
    fn begin() -> Self {
        // Unset if the pool logs in from a task of its own.
        let call = WAITS_FOR_PERMIT.try_with(Arc::clone).ok();
        if let Some(waits) = &call {
            waits.store(true, Ordering::Release);
        }
        Self(call)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(waits) = &self.0 {
            waits.store(false, Ordering::Release);
        }
    }
}
