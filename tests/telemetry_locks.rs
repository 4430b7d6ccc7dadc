//! Tracing layers, pool factories and the `Drop` of secrets and errors may read the supervisor's
//! status and may be slow. No lock that a caller needs is locked while they run.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use claviger::error::{ConnectError, ConnectErrorKind, ProviderError, ProviderErrorKind};
use claviger::lease::Expiry;
use claviger::provider::{FetchRequest, Fetched};
use claviger::{Handle, Lease, Provider, Revision, Supervisor};
use claviger_fixtures::{Scripted, backend_down, rejection};
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use tokio::time::sleep;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Locked by each test. A thread without a subscriber that reaches a span first, while another one
/// sets its own, would disable that span for all.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A read that takes longer is blocked.
const STUCK: Duration = Duration::from_secs(10);

/// Reads the status from another thread at each call, as a caller would while a slow writer blocks
/// this one.
#[derive(Clone, Debug, Default)]
struct Reader {
    supervisor: Arc<OnceLock<Supervisor>>,
    handle: Arc<OnceLock<Handle<ScriptedPools>>>,
    /// Number of reads by call site.
    reads: Arc<Mutex<BTreeMap<String, u32>>>,
    stuck: Arc<Mutex<Vec<String>>>,
    /// Number of calls of a factory's `account` until another thread reports the current
    /// credentials as rejected.
    rejects_in: Arc<AtomicI32>,
}

impl Reader {
    fn read(&self, at: &str, name: &str) {
        thread_local!(static READING: Cell<bool> = const { Cell::new(false) });
        let Some(supervisor) = self.supervisor.get().cloned() else {
            return;
        };
        // One blocked read is enough, and what is read may log itself.
        if !self.stuck.lock().expect("no panic").is_empty() || READING.replace(true) {
            return;
        }
        *self
            .reads
            .lock()
            .expect("no panic")
            .entry(format!("{at} {name}"))
            .or_default() += 1;
        let handle = self.handle.get().cloned();
        let rejects = (at, name) == ("factory", "account")
            && self.rejects_in.fetch_sub(1, Ordering::AcqRel) == 1;
        let (done, returned) = mpsc::channel();
        thread::spawn(move || {
            READING.set(true);
            let status = supervisor.status();
            drop((
                supervisor.readiness(),
                supervisor.liveness(),
                supervisor.events(),
            ));
            if let Some(handle) = handle {
                drop((handle.status(), handle.generation(), handle.current()));
                let generation = if rejects {
                    handle.generation()
                } else {
                    u64::MAX
                };
                handle.rejected(generation, &rejection());
            }
            let _ = done.send(status);
        });
        if returned.recv_timeout(STUCK).is_err() {
            self.stuck
                .lock()
                .expect("no panic")
                .push(format!("{at} {name}"));
        }
        READING.set(false);
    }

    fn read_at(
        &self,
        at: &str,
        id: &Id,
        context: &Context<'_, impl Subscriber + for<'l> LookupSpan<'l>>,
    ) {
        self.read(
            at,
            context.metadata(id).map_or("?", |metadata| metadata.name()),
        );
    }
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Reader {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        self.read("new", attributes.metadata().name());
    }

    fn on_record(&self, id: &Id, _: &Record<'_>, context: Context<'_, S>) {
        self.read_at("record", id, &context);
    }

    fn on_follows_from(&self, id: &Id, _: &Id, context: Context<'_, S>) {
        self.read_at("follows", id, &context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.read_at("enter", id, &context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.read_at("exit", id, &context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.read_at("close", &id, &context);
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.read("event", event.metadata().target());
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_reads_the_status_never_waits_for_a_lock() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let reader = Reader::default();
    let _guard =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(reader.clone()));
    let Lab { supervisor, .. } = Lab::new();
    let _ = reader.supervisor.set(supervisor.clone());
    let (provider, database) = (ScriptedProvider::new(), ScriptedPools::new(4));
    let second = || Duration::from_secs(1);

    // A start after a failure.
    provider.fail_next(1, backend_down());
    let credentials = supervisor
        .add_provider("login", provider.clone())
        .await
        .expect("a lease");
    let db = supervisor
        .add_pool("orders", &credentials, database.clone())
        .await
        .expect("verified");
    let _ = reader.handle.set(db.clone());
    let reports = supervisor
        .add_pool("reports", &credentials, database.clone())
        .await
        .expect("verified");

    // Rotations: in place, by replacement with an abandoned drain, overtaken by another one.
    provider.rotate();
    supervisor.rotate_now("login").await.expect("a report");
    database.disable_in_place();
    let busy = database.connection();
    provider.rotate();
    provider.hint();
    sleep(100 * second()).await;
    drop(busy);
    database.accept_only(["nothing"]);
    provider.rotate();
    provider.hint();
    sleep(5 * second()).await;
    provider.rotate();
    provider.hint();
    sleep(5 * second()).await;
    database.accept_only(["password-5"]);
    sleep(60 * second()).await;
    assert_eq!(db.generation(), 4);

    // A lasting rejection, so that the rotation's span is followed by others; the backend fails
    // meanwhile.
    database.accept_only(["nothing"]);
    assert!(db.rejected(4, &rejection()));
    provider.fail_next(5, backend_down());
    sleep(900 * second()).await;
    provider.rotate();
    database.accept_only(["password-6"]);
    drop(supervisor.rotate_now("login").await);
    sleep(60 * second()).await;
    assert!(db.generation() > 4);

    // Removal and shutdown, with a connection that is not returned and a release that fails.
    provider.fail_releases(1, backend_down());
    supervisor
        .remove_pool("reports")
        .await
        .expect("the pool is removed");
    drop(reports);
    let busy = database.connection();
    let report = supervisor.shutdown(2 * second()).await;
    drop((busy, report));
    sleep(second()).await;

    assert_eq!(
        *reader.stuck.lock().expect("no panic"),
        Vec::<String>::new()
    );
    let reads = reader.reads.lock().expect("no panic").clone();
    for wanted in [
        "new credential.rotation",
        "record credential.rotation",
        "close credential.rotation",
        "new credential.fetch",
        "close credential.fetch",
        "new pool.handover",
        "record pool.handover",
        "new pool.verify",
        "close pool.verify",
        "new pool.drain",
        "follows pool.drain",
        "record pool.drain",
        "close pool.drain",
        "event claviger::supervisor::shutdown",
    ] {
        assert!(
            reads.contains_key(wanted),
            "the hazard: {wanted} is not among {reads:?}"
        );
    }
    assert!(
        reads["new credential.rotation"] > 8,
        "the hazard: one rotation in parts, {reads:?}"
    );
}

/// Reads the status at each call of a factory's method.
async fn reading_fixture() -> (Scripted, Reader) {
    let (database, reader) = (ScriptedPools::new(4), Reader::default());
    let calls = reader.clone();
    database.on_call(move |method| calls.read("factory", method));
    let lab = Lab::new();
    let _ = reader.supervisor.set(lab.supervisor.clone());
    let scripted = Scripted::in_lab(lab, ScriptedProvider::new(), database).await;
    let _ = reader.handle.set(scripted.pool.clone());
    (scripted, reader)
}

#[tokio::test(start_paused = true)]
async fn a_factory_that_reads_the_status_never_waits_for_a_lock() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (scripted, reader) = reading_fixture().await;
    let Scripted {
        lab,
        provider,
        database,
        pool: db,
        ..
    } = scripted;
    provider.rotate();
    lab.supervisor.rotate_now("login").await.expect("a report");
    database.disable_in_place();
    let busy = database.connection();
    provider.rotate();
    lab.supervisor.rotate_now("login").await.expect("a report");
    assert_eq!(
        db.status().expect("supervised").draining.len(),
        1,
        "the hazard: an old generation is counted"
    );
    drop(db.get().await.expect("a connection"));
    assert!(db.rejected(db.generation(), &rejection()));
    sleep(Duration::from_secs(60)).await;
    drop((lab.supervisor.status(), lab.supervisor.readiness()));
    let report = lab.supervisor.shutdown(Duration::from_secs(2)).await;
    drop((busy, report));

    assert_eq!(
        *reader.stuck.lock().expect("no panic"),
        Vec::<String>::new()
    );
    let reads = reader.reads.lock().expect("no panic").clone();
    for wanted in [
        "settings",
        "check",
        "vacant",
        "verify",
        "account",
        "server",
        "open",
        "update_in_place",
        "drain",
        "connections",
        "idle",
        "classify",
        "try_get",
        "get",
    ] {
        assert!(
            reads.contains_key(&format!("factory {wanted}")),
            "the hazard: {wanted} is not among {reads:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_factory_whose_thread_reports_a_rejection_never_waits_for_a_lock() {
    let _alone = ONE_AT_A_TIME.lock().await;
    for nth in 1..=8 {
        let (scripted, reader) = reading_fixture().await;
        reader.rejects_in.store(nth, Ordering::Release);
        scripted.provider.rotate();
        scripted.provider.hint();
        // A wake calls `account` once, and clock checks alone make ten.
        sleep(Duration::from_secs(150)).await;
        assert!(
            reader.rejects_in.load(Ordering::Acquire) <= 0,
            "the hazard: the rejection was reported"
        );
        assert_eq!(
            *reader.stuck.lock().expect("no panic"),
            Vec::<String>::new(),
            "blocked in call {nth}"
        );
        assert!(scripted.pool.status().expect("supervised").serving);
    }
}

/// Secret, or cause of an error, that reads the status when it is dropped.
#[derive(Debug)]
struct ReadsWhenDropped(Reader, &'static str);

impl Drop for ReadsWhenDropped {
    fn drop(&mut self) {
        self.0.read("drop", self.1);
    }
}

impl fmt::Display for ReadsWhenDropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }
}

impl std::error::Error for ReadsWhenDropped {}

type FetchResult = Result<Fetched<ReadsWhenDropped>, ProviderError>;

/// Returns these results in turn, each after its time, and then an unchanged lease.
#[derive(Debug)]
struct DroppedValues {
    reader: Reader,
    results: Mutex<VecDeque<(Duration, FetchResult)>>,
    has_failed_release: AtomicBool,
}

impl Provider for DroppedValues {
    type Secret = ReadsWhenDropped;

    async fn fetch(&self, _: FetchRequest<ReadsWhenDropped>) -> FetchResult {
        let next = self.results.lock().expect("no panic").pop_front();
        let Some((after, result)) = next else {
            return Ok(Fetched::Unchanged);
        };
        sleep(after).await;
        result
    }

    async fn release(&self, _: Lease<ReadsWhenDropped>) -> Result<(), ProviderError> {
        if self.has_failed_release.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let cause = ReadsWhenDropped(self.reader.clone(), "error of a release");
        Err(backend_down().with_source(cause))
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_or_error_that_reads_the_status_when_dropped_never_waits_for_a_lock() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (lab, reader) = (Lab::new(), Reader::default());
    let _ = reader.supervisor.set(lab.supervisor.clone());
    let value = |name| ReadsWhenDropped(reader.clone(), name);
    let lease = |name, revision| Lease::new(value(name), Revision::new(revision));
    let error = |name| {
        ProviderError::new(ProviderErrorKind::Unavailable, "the backend is down")
            .with_source(value(name))
    };
    let expired = Expiry::after(lab.clock.clock().now(), Duration::ZERO);
    let results = [
        Ok(lease("renewed secret", "a").into()),
        Ok(lease("superseded secret", "a").into()),
        Ok(lease("current secret", "b").into()),
        Err(error("replaced error")),
        Err(error("last error")),
        Ok(lease("expired secret", "c").with_expiry(expired).into()),
        Ok(Fetched::Unchanged),
    ];
    let mut results: VecDeque<_> = results.map(|result| (Duration::ZERO, result)).into();
    // It ends after its deadline.
    let late = Ok(lease("late secret", "b").into());
    results.push_back((Duration::from_secs(40), late));
    let provider = DroppedValues {
        reader: reader.clone(),
        results: Mutex::new(results),
        has_failed_release: AtomicBool::new(false),
    };
    lab.add_provider("login", provider).await;
    sleep(Duration::from_secs(3_600)).await;
    expect_drops(
        &reader,
        &[
            "renewed secret",
            "superseded secret",
            "error of a release",
            "replaced error",
            "last error",
            "expired secret",
            "late secret",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn a_pools_error_that_reads_the_status_when_dropped_never_waits_for_a_lock() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (scripted, reader) = (Scripted::new().await, Reader::default());
    let _ = reader.supervisor.set(scripted.lab.supervisor.clone());
    let _ = reader.handle.set(scripted.pool.clone());
    let fail_next = |name| {
        let cause = ReadsWhenDropped(reader.clone(), name);
        let error = ConnectError::new(ConnectErrorKind::Unreachable, "no route to the server");
        scripted.database.fail_next(1, error.with_source(cause));
    };
    fail_next("replaced error");
    scripted.provider.rotate();
    scripted.provider.hint();
    sleep(Duration::from_millis(500)).await;
    fail_next("last error");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(scripted.pool.generation(), 2);
    expect_drops(&reader, &["replaced error"]);
}

#[track_caller]
fn expect_drops(reader: &Reader, wanted: &[&str]) {
    assert_eq!(
        *reader.stuck.lock().expect("no panic"),
        Vec::<String>::new()
    );
    let reads = reader.reads.lock().expect("no panic");
    for name in wanted {
        assert!(
            reads.contains_key(&format!("drop {name}")),
            "the hazard: {name} is not among {reads:?}"
        );
    }
}
