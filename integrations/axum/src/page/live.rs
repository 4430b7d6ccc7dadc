//! Follows the supervisor: notes events, and sends snapshots to the clients while there are any.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::time::{Duration, UNIX_EPOCH};

use axum::response::sse::Event as Message;
use claviger::Supervisor;
use claviger::events::Events;
use claviger::lease::Timestamp;
use futures_util::stream::{self, Stream};
use tokio::runtime::Handle as Runtime;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::VERSION;
use super::history::History;
use super::view::Snapshot;

/// Number of clients that are served at a time.
const STREAMS: usize = 16;

/// Shortest time between two snapshots. Connections open and close without an event, so the state
/// is read this often while a client is connected.
const INTERVAL: Duration = Duration::from_millis(350);

/// Time without a snapshot after which a client gets only the time. The page connects again after
/// 40 s of silence, and proxies close a connection that is silent for a minute. An event, because a
/// script does not receive comments.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Time after which a stream ends and its place is free, also if its client has stopped reading. A
/// browser connects again, and gets a whole snapshot.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// Time after which a browser connects again when a stream has ended.
const RECONNECT: Duration = Duration::from_secs(2);

/// State that all clients of a page share.
pub(super) struct Live {
    supervisor: Supervisor,
    history: Mutex<History>,
    /// The content of the latest snapshot. The task owns the sender, and drops it when the service
    /// is leaving: that ends all streams.
    latest: watch::Receiver<Arc<str>>,
    clients: Arc<Semaphore>,
    /// Wakes the task when a client has got its first snapshot.
    connected: Arc<Notify>,
    start: Once,
    task: Mutex<Task>,
}

/// The task that follows the supervisor.
enum Task {
    /// Not started yet, because there was no runtime.
    Waiting(Events, watch::Sender<Arc<str>>),
    Running(AbortHandle),
    Starting,
}

impl Live {
    /// Starts to follow the supervisor, on the runtime of the caller if there is one.
    pub(super) fn new(supervisor: Supervisor) -> Arc<Self> {
        let (sender, latest) = watch::channel(Arc::from(""));
        let events = supervisor.events();
        let live = Arc::new(Self {
            supervisor,
            history: Mutex::default(),
            latest,
            clients: Arc::new(Semaphore::new(STREAMS)),
            connected: Arc::default(),
            start: Once::new(),
            task: Mutex::new(Task::Waiting(events, sender)),
        });
        live.start();
        live
    }

    /// Starts the task once there is a runtime.
    fn start(self: &Arc<Self>) {
        let Ok(runtime) = Runtime::try_current() else {
            return;
        };
        self.start.call_once(|| {
            let mut task = lock(&self.task);
            if let Task::Waiting(events, sender) = std::mem::replace(&mut *task, Task::Starting) {
                let follow = follow(
                    Arc::downgrade(self),
                    events,
                    sender,
                    Arc::clone(&self.connected),
                );
                *task = Task::Running(runtime.spawn(follow).abort_handle());
            }
        });
    }

    /// Reads the present state, and returns what `show` makes of it.
    pub(super) fn snapshot<T>(self: &Arc<Self>, show: impl FnOnce(&Snapshot<'_>) -> T) -> T {
        self.start();
        let status = self.supervisor.status();
        let readiness = self.supervisor.readiness();
        let now = Timestamp::now();
        let mut history = lock(&self.history);
        history.complete(&status, now);
        show(&Snapshot {
            now,
            status: &status,
            readiness: &readiness,
            history: &history,
        })
    }

    /// Returns what the page shows now, as JSON. It changes only if the state does: texts that
    /// depend on the time are written by the page.
    fn content(self: &Arc<Self>) -> Arc<str> {
        self.snapshot(|snapshot| {
            let content = serde_json::json!({ "title": snapshot.title(), "main": snapshot.main() });
            content.to_string().into()
        })
    }

    /// Returns a stream of snapshots: one at once, and one after each change, with heartbeats in
    /// between. Returns `None` if there are too many clients.
    pub(super) fn events(
        self: &Arc<Self>,
    ) -> Option<impl Stream<Item = Result<Message, Infallible>> + use<>> {
        let permit = Arc::clone(&self.clients).try_acquire_owned().ok()?;
        self.start();
        let client = Client {
            live: Arc::clone(self),
            latest: self.latest.clone(),
            sent: None,
        };
        let (sender, messages) = mpsc::channel(1);
        // In a task, because the stream of a client that stops reading is not polled.
        tokio::spawn(async move {
            let _permit = permit;
            let _is_in_time = timeout(LONGEST, client.serve(sender)).await;
        });
        Some(stream::unfold(messages, async |mut messages| {
            let message = messages.recv().await?;
            Some((Ok(message), messages))
        }))
    }
}

/// A connected client.
struct Client {
    live: Arc<Live>,
    latest: watch::Receiver<Arc<str>>,
    /// The last snapshot that it got.
    sent: Option<Arc<str>>,
}

impl Client {
    /// Sends snapshots until the client has left, or the service is leaving.
    async fn serve(mut self, messages: mpsc::Sender<Message>) {
        // A snapshot is made once the client has taken the previous one.
        while let Ok(place) = messages.reserve().await {
            let message = tokio::select! {
                message = timeout(HEARTBEAT, self.next()) => message.unwrap_or_else(|_| {
                    let now = seconds_since_1970().to_string();
                    Some(Message::default().event("now").data(now))
                }),
                () = messages.closed() => None,
            };
            let Some(message) = message else {
                return;
            };
            place.send(message);
        }
    }

    /// Waits for the next snapshot. Returns `None` when the service is leaving. No snapshot is lost
    /// when the future is dropped.
    async fn next(&mut self) -> Option<Message> {
        let content = loop {
            if self.sent.is_none() {
                self.latest.mark_unchanged();
                let content = self.live.content();
                // After the read, so that the next state that is sent is newer than this one.
                self.live.connected.notify_one();
                break content;
            }
            self.latest.changed().await.ok()?;
            let content = Arc::clone(&self.latest.borrow_and_update());
            if self.sent.as_ref() != Some(&content) {
                break content;
            }
        };
        self.sent = Some(Arc::clone(&content));
        let (now, version) = (seconds_since_1970(), &*VERSION);
        // A message is one line: JSON has no others.
        let message = format!(r#"{{"now":{now},"version":"{version}","snapshot":{content}}}"#);
        Some(Message::default().retry(RECONNECT).data(message))
    }
}

/// Returns the time to which the page sets its clock.
fn seconds_since_1970() -> f64 {
    let now = Timestamp::now().wall().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}

/// Follows the supervisor until its shutdown.
async fn follow(
    live: Weak<Live>,
    mut events: Events,
    latest: watch::Sender<Arc<str>>,
    connected: Arc<Notify>,
) {
    let mut latest = Some(latest);
    // Whether a client has got a state that may differ from the latest that was sent.
    let mut is_due = false;
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // The page's own receiver is one.
        let has_clients = latest
            .as_ref()
            .is_some_and(|latest| latest.receiver_count() > 1);
        tokio::select! {
            event = events.next() => {
                let (Some(event), Some(live)) = (event, live.upgrade()) else {
                    return;
                };
                let status = || live.supervisor.status();
                lock(&live.history).note(event, Timestamp::now(), status);
            }
            _ = ticks.tick(), if has_clients => {
                let Some(live) = live.upgrade() else {
                    return;
                };
                let content = live.content();
                if let Some(latest) = &latest {
                    latest.send_if_modified(|sent| {
                        let is_new = *sent != content;
                        *sent = content;
                        is_new || is_due
                    });
                    is_due = false;
                }
                if live.supervisor.is_leaving() {
                    // Clients connect again, and get one snapshot each time.
                    latest = None;
                }
            }
            () = connected.notified() => is_due = true,
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Task::Running(task) = task {
            task.abort();
        }
    }
}

/// The history is complete after each step, so a panic leaves it usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
