//! Limits on callers' logins in one pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, oneshot, watch};
use tokio::time::{sleep, sleep_until, timeout};

use super::admission::{HEAD_START, logins_at_once};
use crate::clock::Clock;
use crate::expiry::Expiry;
use crate::id::Id;
use crate::lock::Mutex;

/// Longest time for which a login continues without its caller. The next verification detects a
/// later rejection.
pub(crate) const WITHOUT_CALLER: Duration = Duration::from_secs(5);

/// Time after a login that worked within which others begin at once.
const SUCCESS_LASTS: Duration = Duration::from_secs(1);

/// A permit to begin a login, and the permit to go ahead of the others.
pub(super) type Permits = (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>);

/// Limits the callers that begin a login at a time to a quarter of the pool's maximum. The others
/// queue here, and leave without a login after a rejection.
///
/// A caller keeps its permit until its login ends, for 100 ms at most: a slow login delays no
/// other caller. A rejection within that time costs a pool of ten at most three failed logins.
/// While the user's failed logins are limited, a permit is kept for up to 5 s. Otherwise a server
/// that rejects slowly would cost more than the login budget.
#[derive(Debug)]
pub(crate) struct LoginLimits {
    id: Id,
    published: AtomicBool,
    /// Permits of the handover for logins before publication. Closed when it ends.
    before_publication: Semaphore,
    permits: Arc<Semaphore>,
    /// Permit of the login that goes first while none has worked lately.
    first_login: Arc<Semaphore>,
    last_success: Mutex<Option<Instant>>,
    limited_until: Mutex<Option<Instant>>,
    without_caller: Mutex<LoginsWithoutCaller>,
    /// Expiry of the credentials that the pool logs in with. An update in place changes it before
    /// the publication.
    expiry: watch::Sender<Expiry>,
}

/// Limits of a pool that is not yet published. After this is dropped, the pool's logins get no
/// permit of the handover.
pub(super) struct UnpublishedLimits(pub(super) Arc<LoginLimits>);

impl Drop for UnpublishedLimits {
    fn drop(&mut self) {
        self.0.before_publication.close();
    }
}

/// Number of logins that continue without their callers, and of calls that wait for them.
#[derive(Debug, Default)]
struct LoginsWithoutCaller {
    logins: usize,
    claims: usize,
}

/// A login that continues without its caller, until dropped.
pub(super) struct LoginWithoutCaller(Arc<LoginLimits>);

impl Drop for LoginWithoutCaller {
    fn drop(&mut self) {
        self.0.without_caller.lock().logins -= 1;
    }
}

/// A call that waits for the connection of a login without a caller, until dropped.
pub(super) struct Claim<'l> {
    login_limits: &'l LoginLimits,
    is_counted: bool,
}

impl Claim<'_> {
    /// Returns whether each claim still has a login without a caller. If not, gives up this claim.
    pub(super) fn is_valid(&mut self) -> bool {
        let mut counts = self.login_limits.without_caller.lock();
        if self.is_counted && counts.claims > counts.logins {
            counts.claims -= 1;
            self.is_counted = false;
        }
        self.is_counted
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.is_counted {
            self.login_limits.without_caller.lock().claims -= 1;
        }
    }
}

impl LoginLimits {
    pub(super) fn new(max: u32) -> Arc<Self> {
        Arc::new(Self {
            id: Id::next(),
            published: AtomicBool::new(false),
            before_publication: Semaphore::new(0),
            permits: Arc::new(Semaphore::new(logins_at_once(max) as usize)),
            first_login: Arc::new(Semaphore::new(1)),
            last_success: Mutex::default(),
            limited_until: Mutex::default(),
            without_caller: Mutex::default(),
            expiry: watch::Sender::new(Expiry::never()),
        })
    }

    /// Notes that a login continues without its caller.
    pub(super) fn note_without_caller(self: &Arc<Self>) -> LoginWithoutCaller {
        self.without_caller.lock().logins += 1;
        LoginWithoutCaller(Arc::clone(self))
    }

    /// Returns how many logins continue without their callers.
    pub(super) fn logins_without_caller(&self) -> usize {
        self.without_caller.lock().logins
    }

    /// Returns a claim to the connection of a login without a caller; `None` if each such login has
    /// a claim already.
    pub(super) fn claim(&self) -> Option<Claim<'_>> {
        let mut counts = self.without_caller.lock();
        (counts.claims < counts.logins).then(|| {
            counts.claims += 1;
            Claim {
                login_limits: self,
                is_counted: true,
            }
        })
    }

    /// Identifies the pool. Generations that share a pool have the same id.
    pub(super) fn id(&self) -> Id {
        self.id
    }

    /// Records that the pool serves callers from now on. Called after its generation was published.
    pub(super) fn publish(&self) {
        self.published.store(true, Ordering::Release);
        self.before_publication.close();
    }

    pub(super) fn is_published(&self) -> bool {
        self.published.load(Ordering::Acquire)
    }

    /// Sets how many more logins may begin before publication.
    pub(super) fn permit_before_publication(&self, logins: u32) {
        self.before_publication.forget_permits(usize::MAX);
        self.before_publication.add_permits(logins as usize);
    }

    /// Waits for a permit of the handover. Returns `false` once the handover has ended.
    pub(super) async fn handover_permit(&self) -> bool {
        self.before_publication
            .acquire()
            .await
            .map(SemaphorePermit::forget)
            .is_ok()
    }

    /// Records the expiry of the credentials that the pool logs in with from now on.
    pub(super) fn set_expiry(&self, expiry: Expiry) {
        let _ = self.expiry.send_replace(expiry);
    }

    /// Resolves when the pool's credentials are valid.
    pub(super) async fn until_valid(&self, clock: &Clock) {
        let mut expiry = self.expiry.subscribe();
        // Fails only without a sender, which this value owns.
        let _ = expiry
            .wait_for(|expiry| expiry.is_never() || !expiry.is_expired(clock.now()))
            .await;
    }

    /// Waits for a permit to begin a login. It is returned on drop.
    pub(crate) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    /// Resolves when a login may begin. If none has worked lately, waits for the login ahead, for
    /// [`head_start`](Self::head_start) at most. A rejected credential then costs one failed login
    /// instead of one for each permit.
    pub(crate) async fn go_ahead(&self, now: impl Fn() -> Instant) -> Option<OwnedSemaphorePermit> {
        if self.has_worked(now()) {
            return None;
        }
        let first = timeout(
            self.head_start(now()),
            Arc::clone(&self.first_login).acquire_owned(),
        )
        .await
        .ok()?
        .ok()?;
        // The login ahead may have worked.
        (!self.has_worked(now())).then_some(first)
    }

    /// Notes until when the user's failed logins are limited.
    pub(super) fn set_limited_until(&self, until: Option<Instant>) {
        *self.limited_until.lock() = until;
    }

    /// Returns the longest time for which a login delays the next ones.
    pub(super) fn head_start(&self, now: Instant) -> Duration {
        if self.limited_until.lock().is_some_and(|until| now < until) {
            WITHOUT_CALLER
        } else {
            HEAD_START
        }
    }

    /// Notes that a login worked.
    pub(crate) fn note_success(&self, now: Instant) {
        *self.last_success.lock() = Some(now);
    }

    fn has_worked(&self, now: Instant) -> bool {
        let last = *self.last_success.lock();
        last.is_some_and(|at| now.saturating_duration_since(at) < SUCCESS_LASTS)
    }
}

/// Acquires a connection, and returns the permits with the result. A login keeps them for
/// `head_start` at most. A caller that queues in a full pool keeps them, because it would log in if
/// another connection closed.
pub(super) async fn with_head_start<T>(
    acquiring: impl Future<Output = T>,
    permits: Permits,
    head_start: Option<Duration>,
) -> (T, Option<Permits>) {
    let mut acquiring = std::pin::pin!(acquiring);
    tokio::select! {
        biased;
        result = acquiring.as_mut() => return (result, Some(permits)),
        () = sleep(head_start.unwrap_or_default()), if head_start.is_some() => drop(permits),
    }
    (acquiring.await, None)
}

/// Resolves when a login has continued without its caller for [`WITHOUT_CALLER`], or beyond its
/// lease's expiry. A driver that tries again would send the expired credential.
pub(super) async fn without_caller_for_long<T>(
    caller: &mut oneshot::Sender<T>,
    expiry: Option<Instant>,
) {
    caller.closed().await;
    let end = tokio::time::Instant::now() + WITHOUT_CALLER;
    sleep_until(expiry.map_or(end, |expiry| end.min(expiry.into()))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_one_call_waits_for_each_login_without_a_caller() {
        let login_limits = LoginLimits::new(10);
        assert!(login_limits.claim().is_none());
        let login = login_limits.note_without_caller();
        let claim = login_limits.claim();
        assert!(claim.is_some_and(|mut claim| claim.is_valid()));
        let mut claim = login_limits.claim();
        assert!(claim.is_some(), "the first claim was given up");
        assert!(login_limits.claim().is_none());
        drop(login);
        assert!(claim.as_mut().is_some_and(|claim| !claim.is_valid()));
        drop(claim);
        let _login = login_limits.note_without_caller();
        assert!(
            login_limits.claim().is_some(),
            "an invalid claim counts once"
        );
    }

    #[tokio::test]
    async fn a_handover_permits_each_login_before_publication() {
        let permit = |login_limits: &Arc<LoginLimits>| {
            let login_limits = Arc::clone(login_limits);
            tokio::spawn(async move { login_limits.handover_permit().await })
        };
        let login_limits = LoginLimits::new(10);
        let handover = UnpublishedLimits(Arc::clone(&login_limits));
        login_limits.permit_before_publication(2);
        login_limits.permit_before_publication(1);
        assert!(permit(&login_limits).await.is_ok_and(|permitted| permitted));
        let second = permit(&login_limits);
        tokio::task::yield_now().await;
        assert!(!second.is_finished(), "one is allowed");
        drop(handover);
        assert!(second.await.is_ok_and(|permitted| !permitted));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_login_delays_the_next_for_long_only_while_failed_logins_are_limited() {
        let now = || tokio::time::Instant::now().into_std();
        let login_limits = LoginLimits::new(10);
        let first = login_limits.go_ahead(now).await;
        assert!(first.is_some());
        let began = now();
        assert!(login_limits.go_ahead(now).await.is_none());
        assert_eq!(now() - began, HEAD_START);

        login_limits.set_limited_until(Some(now() + Duration::from_secs(30)));
        let began = now();
        assert!(login_limits.go_ahead(now).await.is_none());
        assert_eq!(now() - began, WITHOUT_CALLER);

        login_limits.set_limited_until(Some(now()));
        assert_eq!(login_limits.head_start(now()), HEAD_START);
    }

    #[tokio::test(start_paused = true)]
    async fn expired_credentials_are_valid_again_after_a_newer_expiry() {
        let clock = Clock::default();
        let login_limits = LoginLimits::new(1);
        login_limits.until_valid(&clock).await;
        let second = Duration::from_secs(1);
        login_limits.set_expiry(Expiry::after(clock.now(), second));
        login_limits.until_valid(&clock).await;
        sleep(2 * second).await;
        let mut valid = std::pin::pin!(login_limits.until_valid(&clock));
        assert!(timeout(second, valid.as_mut()).await.is_err());
        login_limits.set_expiry(Expiry::after(clock.now(), second));
        valid.await;
    }
}
