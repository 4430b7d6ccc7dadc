//! The verified credentials for clients of redis-rs that reconnect by themselves: the
//! `ConnectionManager` and the cluster's client.
//!
//! The library does not count their logins, and a cluster's client repeats a rejected one without
//! end. Logins are therefore limited here while none succeeds.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{Stream, unfold};
use parking_lot::Mutex;
use redis::{BasicAuth, RedisResult, StreamingCredentialsProvider};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::connection::State;
use crate::credentials::{Verified, Version};

/// Number of logins in a row without a success, after which they are limited. A large cluster opens
/// this many connections at once.
const LOGINS: u32 = 16;
/// Time between two logins after that.
const PAUSE: Duration = Duration::from_secs(10);

/// The streams of all connections of one client.
pub(crate) struct Reconnecting {
    verified: Verified,
    client: Arc<Client>,
}

/// Observed state of a client's connections.
pub(crate) struct Client {
    /// Notified when a subscription advances or ends.
    changed: watch::Sender<()>,
    logins: Mutex<Logins>,
    state: Arc<State>,
}

#[derive(Default)]
struct Logins {
    /// Version that each open connection has authenticated with, by the number of its stream.
    accepted: BTreeMap<u64, u64>,
    streams: u64,
    /// Version to which the next two fields apply.
    version: u64,
    /// Streams that have begun since the last success.
    in_a_row: u32,
    last: Option<Instant>,
}

impl Logins {
    /// Counts a login, or returns when the next one may begin.
    fn begin(&mut self, version: u64, now: Instant) -> Result<(), Instant> {
        if self.version != version {
            (self.version, self.in_a_row) = (version, 0);
        }
        let next = self.last.map(|last| last + PAUSE);
        match next.filter(|next| self.in_a_row >= LOGINS && now < *next) {
            Some(next) => Err(next),
            None => {
                self.in_a_row += 1;
                self.last = Some(now);
                Ok(())
            }
        }
    }
}

impl Reconnecting {
    /// Creates the provider of one client. `state` is marked as broken when the client must be
    /// replaced.
    pub(crate) fn new(verified: Verified, state: Arc<State>) -> Self {
        let client = Client {
            changed: watch::Sender::new(()),
            logins: Mutex::default(),
            state,
        };
        Self {
            verified,
            client: Arc::new(client),
        }
    }

    pub(crate) fn client(&self) -> Arc<Client> {
        Arc::clone(&self.client)
    }
}

impl Client {
    /// Resolves when each open connection has authenticated with this version.
    pub(crate) async fn reach(&self, version: u64) {
        let mut changed = self.changed.subscribe();
        let has_reached = |()| {
            let logins = self.logins.lock();
            logins.accepted.values().all(|number| *number >= version)
        };
        // Fails only without a sender, which this value owns.
        let _ = changed.wait_for(|()| has_reached(())).await;
    }

    /// Records that a stream was polled again: its last value was accepted.
    fn accepted(&self, stream: u64, version: u64) {
        let mut logins = self.logins.lock();
        logins.accepted.insert(stream, version);
        logins.in_a_row = 0;
        drop(logins);
        self.changed.send_replace(());
    }

    /// Records the end of a stream, with the last value that it returned.
    fn ended(&self, stream: u64, sent: Option<u64>) {
        let accepted = self.logins.lock().accepted.remove(&stream);
        // The stream of a login ends after its first value. A stream with an accepted value belongs
        // to an open connection, which the server has rejected or closed.
        if accepted.is_some_and(|accepted| sent.is_some_and(|sent| sent > accepted)) {
            self.state.note_broken();
        }
        self.changed.send_replace(());
    }
}

impl StreamingCredentialsProvider for Reconnecting {
    fn subscribe(&self) -> Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send + 'static>> {
        let stream = {
            let mut logins = self.client.logins.lock();
            logins.streams += 1;
            logins.streams
        };
        let reading = Reading {
            versions: self.verified.subscribe(),
            client: Arc::clone(&self.client),
            stream,
            sent: None,
        };
        Box::pin(unfold(reading, |mut reading| async move {
            let auth = reading.next().await?;
            Some((Ok(auth), reading))
        }))
    }
}

struct Reading {
    versions: watch::Receiver<Version>,
    client: Arc<Client>,
    stream: u64,
    sent: Option<u64>,
}

impl Reading {
    async fn next(&mut self) -> Option<BasicAuth> {
        match self.sent {
            Some(number) => {
                self.client.accepted(self.stream, number);
                self.versions.changed().await.ok()?;
            }
            None => self.may_log_in().await?,
        }
        let version = self.versions.borrow_and_update().clone();
        self.sent = Some(version.number);
        Some(version.auth())
    }

    /// Waits until a login may begin: at once, or while logins fail, after a pause or with newer
    /// credentials.
    async fn may_log_in(&mut self) -> Option<()> {
        loop {
            let version = self.versions.borrow_and_update().number;
            let begun = self.client.logins.lock().begin(version, Instant::now());
            let Err(next) = begun else {
                return Some(());
            };
            // The next call logs in with a permit, and so reports the error.
            self.client.state.note_broken();
            tokio::select! {
                changed = self.versions.changed() => changed.ok()?,
                () = sleep_until(next) => {}
            }
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.client.ended(self.stream, self.sent);
    }
}

#[cfg(test)]
mod tests {
    use claviger::Credentials;
    use futures_util::{FutureExt, StreamExt};

    use super::*;

    fn provider() -> (Verified, Reconnecting, Arc<State>) {
        let verified = Verified::new(Credentials::new("app", "first"));
        let state = Arc::<State>::default();
        let provider = Reconnecting::new(verified.clone(), Arc::clone(&state));
        (verified, provider, state)
    }

    #[tokio::test(start_paused = true)]
    async fn logins_without_a_success_are_limited_until_newer_credentials() {
        let (verified, provider, state) = provider();
        for _ in 0..LOGINS {
            assert!(provider.subscribe().next().now_or_never().is_some());
        }
        assert!(state.is_usable());
        let mut waiting = provider.subscribe();
        let mut next = waiting.next();
        assert!((&mut next).now_or_never().is_none());
        assert!(!state.is_usable());
        verified.update(Credentials::new("app", "second"));
        let auth = next.await.and_then(Result::ok);
        assert_eq!(
            auth.map(|auth| auth.password().to_owned()).as_deref(),
            Some("second")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_login_follows_in_ten_seconds() {
        let (_, provider, _) = provider();
        let began = Instant::now();
        for _ in 0..LOGINS + 3 {
            provider.subscribe().next().await;
        }
        assert_eq!(began.elapsed().as_secs(), 30);
    }

    #[tokio::test]
    async fn each_open_connection_authenticates_again_or_replaces_the_client() {
        let (verified, provider, state) = provider();
        let client = provider.client();
        let (mut one, mut two) = (provider.subscribe(), provider.subscribe());
        for stream in [&mut one, &mut two] {
            stream.next().await;
            assert!(stream.next().now_or_never().is_none());
        }
        assert!(client.reach(1).now_or_never().is_some());
        verified.update(Credentials::new("app", "second"));
        assert!(client.reach(2).now_or_never().is_none());
        one.next().await;
        assert!(one.next().now_or_never().is_none());
        two.next().await;
        assert!(client.reach(2).now_or_never().is_none(), "one of two");
        // As redis-rs does after a rejection.
        drop(two);
        assert!(client.reach(2).now_or_never().is_some());
        assert!(!state.is_usable());
    }
}
