//! The verified credentials for clients of redis-rs that reconnect by themselves: the
//! `ConnectionManager` and the cluster's client.
//!
//! The library does not count their logins, and a cluster's client repeats a rejected one without
//! end. Logins are therefore limited here while none succeeds. None begins with expired
//! credentials.
//!
//! redis-rs subscribes twice for each connection, as described in `credentials.rs`. The task of the
//! login subscribes and polls at once. After a success it subscribes again, and spawns a task that
//! polls this second stream.

use std::collections::BTreeMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::stream::{Stream, unfold};
use parking_lot::Mutex;
use redis::{BasicAuth, RedisResult, StreamingCredentialsProvider};
use tokio::sync::watch;
use tokio::task;
use tokio::time::{Instant, sleep_until, timeout};

use crate::connection::State;
use crate::credentials::{Verified, Version};

/// Number of logins in a row without a success, after which they are limited. A large cluster has
/// this many under way at once, and continues after the first success.
const LOGINS: u32 = 16;
/// Time between two logins after that.
const PAUSE: Duration = Duration::from_secs(10);
/// Time for which logins are limited before the client counts as failing. Shorter than the default
/// timeout of a login.
const GRACE: Duration = Duration::from_millis(500);

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
    /// Owned by the guards. It owns this client.
    state: Weak<State>,
}

#[derive(Default)]
struct Logins {
    /// Version that each open connection has authenticated with, by the number of its stream.
    accepted: BTreeMap<u64, u64>,
    /// Whether a connection may be open that redis-rs never authenticates again, because its first
    /// `AUTH` failed. Such a connection has no entry in `accepted`.
    has_lost_one: bool,
    streams: u64,
    /// Version to which the next three fields apply.
    version: u64,
    /// Logins that have begun since the last success.
    in_a_row: u32,
    last: Option<Instant>,
    /// Time since which a login waits, without a success.
    limited_since: Option<Instant>,
}

impl Logins {
    /// Counts a login, or returns when the next one may begin.
    fn begin(&mut self, version: u64, now: Instant) -> Result<(), Instant> {
        if self.version != version {
            self.version = version;
            self.succeeded();
        }
        let next = self.last.map(|last| last + PAUSE);
        match next.filter(|next| self.in_a_row >= LOGINS && now < *next) {
            Some(next) => {
                self.limited_since.get_or_insert(now);
                Err(next)
            }
            None => {
                self.in_a_row += 1;
                self.last = Some(now);
                Ok(())
            }
        }
    }

    /// Records that a login succeeded.
    fn succeeded(&mut self) {
        self.in_a_row = 0;
        self.limited_since = None;
    }
}

impl Reconnecting {
    /// Creates the provider of one client. `state` is marked as broken when the client must be
    /// replaced.
    pub(crate) fn new(verified: Verified, state: &Arc<State>) -> Self {
        let client = Client {
            changed: watch::Sender::new(()),
            logins: Mutex::default(),
            state: Arc::downgrade(state),
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
    /// Resolves when each open connection has authenticated with this version, or the client is
    /// marked as broken.
    pub(crate) async fn reach(&self, version: u64) {
        let mut changed = self.changed.subscribe();
        let has_reached = |()| {
            let logins = self.logins.lock();
            logins.has_lost_one || logins.accepted.values().all(|number| *number >= version)
        };
        // Fails only without a sender, which this value owns.
        let _ = changed.wait_for(|()| has_reached(())).await;
        if self.logins.lock().has_lost_one {
            self.note(State::note_broken);
        }
    }

    /// Records something about the connection, if a guard is left.
    fn note(&self, note: impl FnOnce(&State)) {
        if let Some(state) = self.state.upgrade() {
            note(&state);
        }
    }

    /// Records that a stream was polled again: its last value was accepted.
    fn accepted(&self, stream: u64, version: u64) {
        let mut logins = self.logins.lock();
        logins.accepted.insert(stream, version);
        logins.succeeded();
        drop(logins);
        self.changed.send_replace(());
    }

    /// Records that a connection has logged in. Logins that wait may begin.
    fn logged_in(&self) {
        self.logins.lock().succeeded();
        self.changed.send_replace(());
    }

    /// Records that no login succeeds, and returns when to check again. Before that, other logins
    /// may still be under way.
    fn note_limited(&self, now: Instant, next: Instant) -> Instant {
        let logins = self.logins.lock();
        let grace_ends = logins.limited_since.unwrap_or(now) + GRACE;
        if now < grace_ends {
            return next.min(grace_ends);
        }
        if logins.accepted.is_empty() {
            // The next call logs in with a permit, and so reports the error.
            self.note(State::note_broken);
        } else {
            // Other nodes may work. The next call sends `PING`.
            self.note(State::note_suspect);
        }
        next
    }

    /// Records that the client cannot log in, because its credentials have expired. Without an open
    /// connection, the next call has to wait for a newer lease, and so reports the error. An open
    /// connection is still shared.
    fn note_expired(&self) {
        if self.logins.lock().accepted.is_empty() {
            self.note(State::note_broken);
        }
    }

    /// Records the end of a stream, with the last value that it returned. The stream of a login
    /// ends after its first value.
    fn ended(&self, stream: u64, sent: Option<u64>, is_login: bool) {
        let mut logins = self.logins.lock();
        let accepted = logins.accepted.remove(&stream);
        let is_last = logins.accepted.is_empty();
        // Perhaps the connection itself has ended. The next rotation replaces the client in both
        // cases.
        logins.has_lost_one |= !is_login && sent.is_some() && accepted.is_none();
        drop(logins);
        // A stream with an accepted value belongs to an open connection, which the server has
        // rejected or closed.
        if accepted.is_some_and(|accepted| sent.is_some_and(|sent| sent > accepted)) {
            self.note(State::note_broken);
        } else if accepted.is_some() && is_last {
            // redis-rs connects again, and may be rejected. The next call sends `PING`.
            self.note(State::note_suspect);
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
            verified: self.verified.clone(),
            client: Arc::clone(&self.client),
            stream,
            task: task::try_id(),
            is_login: true,
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
    verified: Verified,
    client: Arc<Client>,
    stream: u64,
    /// The task that subscribed.
    task: Option<task::Id>,
    /// Whether this is the first stream of a connection, as far as is known.
    is_login: bool,
    sent: Option<u64>,
}

impl Reading {
    async fn next(&mut self) -> Option<BasicAuth> {
        match self.sent {
            Some(number) => {
                self.client.accepted(self.stream, number);
                self.versions.changed().await.ok()?;
            }
            None if self.task == task::try_id() => self.may_log_in().await?,
            // A second stream: the login has succeeded.
            None => {
                self.is_login = false;
                self.client.logged_in();
            }
        }
        self.verified.until_valid().await;
        let version = self.versions.borrow_and_update().clone();
        self.sent = Some(version.number);
        Some(version.auth())
    }

    /// Waits until a login may begin. Expired credentials delay the login until newer ones are
    /// active. While no login succeeds, it also waits for a success, a pause or newer credentials.
    async fn may_log_in(&mut self) -> Option<()> {
        let client = Arc::clone(&self.client);
        let mut progress = client.changed.subscribe();
        loop {
            {
                let mut valid = pin!(self.verified.until_valid());
                if timeout(GRACE, valid.as_mut()).await.is_err() {
                    client.note_expired();
                    valid.await;
                }
            }
            let version = self.versions.borrow_and_update().number;
            let now = Instant::now();
            let begun = client.logins.lock().begin(version, now);
            let Err(next) = begun else {
                return Some(());
            };
            let next = client.note_limited(now, next);
            tokio::select! {
                changed = self.versions.changed() => changed.ok()?,
                changed = progress.changed() => changed.ok()?,
                () = sleep_until(next) => {}
            }
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.client.ended(self.stream, self.sent, self.is_login);
    }
}

#[cfg(test)]
mod tests;
