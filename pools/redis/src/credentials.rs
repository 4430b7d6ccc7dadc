//! The verified credentials of a pool, as streams that redis-rs reads.
//!
//! redis-rs subscribes twice for each connection. The first value of the first stream is sent by
//! the login. Each value of the second stream is sent by `AUTH`. redis-rs does not report the
//! results. If a stream is polled again, the server has accepted its last value. If the stream is
//! dropped before that, the connection has ended, or the server rejected the value. After a
//! rejection, redis-rs never authenticates that connection again.
//!
//! The server would queue an `AUTH` within a transaction of the caller. So each
//! connection has a lock. An `AUTH` owns it until its result, a transaction from `MULTI` to its
//! end.
//!
//! While the credentials are expired, streams pause. An error, or the end of a stream, would be
//! final for the client that reads it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use claviger::Credentials;
use claviger::pool::LoginPermits;
use futures_util::FutureExt;
use futures_util::stream::{Stream, unfold};
use redis::{BasicAuth, RedisResult, StreamingCredentialsProvider};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

/// The credentials that a pool logs in with, all of them verified.
#[derive(Clone)]
pub struct Verified {
    current: Arc<watch::Sender<Version>>,
    permits: LoginPermits,
}

/// Credentials with a number that grows.
#[derive(Clone)]
pub(crate) struct Version {
    pub(crate) number: u64,
    pub(crate) credentials: Credentials,
}

impl Version {
    pub(crate) fn auth(&self) -> BasicAuth {
        BasicAuth::new(
            self.credentials.user().to_owned(),
            self.credentials.expose_password().to_owned(),
        )
    }
}

impl Verified {
    pub(crate) fn new(credentials: Credentials, permits: LoginPermits) -> Self {
        let first = Version {
            number: 1,
            credentials,
        };
        Self {
            current: Arc::new(watch::Sender::new(first)),
            permits,
        }
    }

    /// Replaces the credentials. Open connections authenticate again.
    pub(crate) fn update(&self, credentials: Credentials) {
        self.current.send_modify(|version| {
            version.number += 1;
            version.credentials = credentials;
        });
    }

    #[cfg(any(feature = "connection-manager", feature = "cluster"))]
    pub(crate) fn subscribe(&self) -> watch::Receiver<Version> {
        self.current.subscribe()
    }

    /// Resolves when the current credentials have not expired.
    pub(crate) async fn until_valid(&self) {
        self.permits.until_valid().await;
    }

    pub(crate) fn current(&self) -> Version {
        self.current.borrow().clone()
    }

    /// Returns the provider for one connection.
    pub(crate) fn for_connection(&self) -> (Subscriptions, Authentications) {
        let progress = Arc::new(watch::Sender::new(Progress::AcceptedUpTo(0)));
        let authentications = Authentications {
            progress,
            lock: Arc::default(),
        };
        let subscriptions = Subscriptions {
            verified: self.clone(),
            authentications: authentications.clone(),
            count: AtomicU32::new(0),
        };
        (subscriptions, authentications)
    }
}

/// Result of the authentications of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// All values up to this version were accepted.
    AcceptedUpTo(u64),
    /// The connection never authenticates again.
    Ended,
}

/// The later authentications of one connection.
#[derive(Clone)]
pub(crate) struct Authentications {
    progress: Arc<watch::Sender<Progress>>,
    lock: Arc<Mutex<()>>,
}

/// Lock of a connection: while it exists, no other `AUTH` or transaction begins.
pub(crate) type AuthLock = OwnedMutexGuard<()>;

impl Authentications {
    /// Locks the connection, after the result of a sent `AUTH` or the end of a transaction.
    pub(crate) async fn lock(&self) -> AuthLock {
        Arc::clone(&self.lock).lock_owned().await
    }

    /// Returns whether the connection never authenticates again: it has ended, or the server
    /// rejected its last `AUTH`.
    pub(crate) fn have_ended(&self) -> bool {
        *self.progress.borrow() == Progress::Ended
    }

    /// Resolves when the connection has authenticated with this version. Returns `false` if it
    /// never will.
    pub(crate) async fn reach(&self, version: u64) -> bool {
        let mut progress = self.progress.subscribe();
        let reached = progress
            .wait_for(|progress| match progress {
                Progress::AcceptedUpTo(number) => *number >= version,
                Progress::Ended => true,
            })
            .await;
        reached.is_ok_and(|progress| *progress != Progress::Ended)
    }
}

/// The streams of one connection.
pub(crate) struct Subscriptions {
    verified: Verified,
    authentications: Authentications,
    count: AtomicU32,
}

impl StreamingCredentialsProvider for Subscriptions {
    fn subscribe(&self) -> Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send + 'static>> {
        // The first stream is for the login, whose result redis-rs returns.
        let is_login = self.count.fetch_add(1, Ordering::Relaxed) == 0;
        let reading = Reading {
            versions: self.verified.current.subscribe(),
            verified: self.verified.clone(),
            sent: None,
            authentications: (!is_login).then(|| self.authentications.clone()),
            lock: None,
        };
        Box::pin(unfold(reading, |mut reading| async move {
            let auth = reading.next().await?;
            Some((Ok(auth), reading))
        }))
    }
}

/// Position of one stream.
struct Reading {
    versions: watch::Receiver<Version>,
    verified: Verified,
    /// Version that was returned last.
    sent: Option<u64>,
    /// `None` for a login.
    authentications: Option<Authentications>,
    /// Lock for the value that was returned last, until its result.
    lock: Option<AuthLock>,
}

impl Reading {
    /// Returns the current credentials first, then each newer version. Values that were replaced
    /// before they could be sent are left out.
    async fn next(&mut self) -> Option<BasicAuth> {
        if let Some(number) = self.sent {
            self.lock = None;
            if let Some(later) = &self.authentications {
                later.progress.send_replace(Progress::AcceptedUpTo(number));
            }
            self.versions.changed().await.ok()?;
        }
        loop {
            self.verified.until_valid().await;
            if let Some(later) = &self.authentications {
                self.lock = Some(later.lock().await);
            }
            // A transaction may have lasted until the credentials expired.
            if self.verified.until_valid().now_or_never().is_some() {
                break;
            }
            self.lock = None;
        }
        let version = self.versions.borrow_and_update().clone();
        self.sent = Some(version.number);
        Some(version.auth())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if let Some(later) = &self.authentications {
            later.progress.send_replace(Progress::Ended);
        }
    }
}

#[cfg(test)]
mod tests {
    use claviger::pool::ObservedPermits;
    use futures_util::StreamExt;

    use super::*;

    fn verified() -> Verified {
        verified_with(&ObservedPermits::new(|_| {}))
    }

    fn verified_with(permits: &ObservedPermits) -> Verified {
        Verified::new(Credentials::new("app", "first"), permits.login_permits())
    }

    async fn password(
        stream: &mut (impl Stream<Item = RedisResult<BasicAuth>> + Unpin),
    ) -> Option<String> {
        let auth = stream.next().await?.ok()?;
        Some(auth.password().to_owned())
    }

    #[tokio::test]
    async fn each_stream_begins_with_the_current_credentials() {
        let verified = verified();
        let (provider, _) = verified.for_connection();
        let mut login = provider.subscribe();
        assert_eq!(password(&mut login).await.as_deref(), Some("first"));
        verified.update(Credentials::new("app", "second"));
        let mut later = provider.subscribe();
        assert_eq!(password(&mut later).await.as_deref(), Some("second"));
        assert!(password(&mut later).now_or_never().is_none());
        verified.update(Credentials::new("app", "third"));
        verified.update(Credentials::new("app", "fourth"));
        assert_eq!(password(&mut later).await.as_deref(), Some("fourth"));
    }

    #[tokio::test]
    async fn expired_credentials_are_not_sent() {
        let permits = ObservedPermits::new(|_| {});
        let verified = verified_with(&permits);
        let (provider, _) = verified.for_connection();
        let (mut login, mut later) = (provider.subscribe(), provider.subscribe());
        permits.set_expired(true);
        assert!(password(&mut login).now_or_never().is_none());
        let mut next = std::pin::pin!(password(&mut later));
        assert!((&mut next).now_or_never().is_none());
        verified.update(Credentials::new("app", "second"));
        permits.set_expired(false);
        assert_eq!(next.await.as_deref(), Some("second"));
        assert_eq!(password(&mut login).await.as_deref(), Some("second"));
    }

    #[tokio::test]
    async fn a_stream_that_is_polled_again_was_accepted() {
        let verified = verified();
        let (provider, authentications) = verified.for_connection();
        drop(provider.subscribe());
        assert!(
            !authentications.have_ended(),
            "the login's stream is dropped"
        );
        let mut later = provider.subscribe();
        password(&mut later).await;
        assert!(authentications.reach(1).now_or_never().is_none());
        assert!(password(&mut later).now_or_never().is_none());
        assert!(authentications.reach(1).await);
        verified.update(Credentials::new("app", "second"));
        password(&mut later).await;
        assert!(authentications.reach(2).now_or_never().is_none());
        // As redis-rs does after a rejection.
        drop(later);
        assert!(!authentications.reach(2).await);
        assert!(authentications.have_ended());
    }

    #[tokio::test]
    async fn an_authentication_and_a_transaction_exclude_each_other() {
        let verified = verified();
        let (provider, authentications) = verified.for_connection();
        drop(provider.subscribe());
        let mut later = provider.subscribe();
        password(&mut later).await;
        assert!(authentications.lock().now_or_never().is_none());
        assert!(password(&mut later).now_or_never().is_none());
        let transaction = authentications.lock().await;
        verified.update(Credentials::new("app", "second"));
        assert!(password(&mut later).now_or_never().is_none());
        drop(transaction);
        assert_eq!(password(&mut later).await.as_deref(), Some("second"));
        // As redis-rs does after a rejection.
        drop(later);
        authentications.lock().await;
    }
}
