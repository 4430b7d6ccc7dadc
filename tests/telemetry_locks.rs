//! Tracing layers and pool factories may read the supervisor's status and may be slow. No lock that
//! a caller needs is held while they run.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use claviger::{
    AcquireError, Check, ConnectError, Credentials, Handle, Lease, PoolFactory, PoolSettings,
    Supervisor, Taken,
};
use claviger_fixtures::{backend_down, rejection};
use claviger_testkit::{Lab, ScriptedConnection, ScriptedPool, ScriptedPools, ScriptedProvider};
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

/// Calls the methods of a handle. Rejects the current generation if its argument is `true`.
#[derive(Clone)]
struct CallHandle(Arc<dyn Fn(bool) + Send + Sync>);

impl std::fmt::Debug for CallHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallHandle")
    }
}

impl CallHandle {
    fn new<F: PoolFactory>(handle: &Handle<F>) -> Self {
        let handle = handle.clone();
        Self(Arc::new(move |rejects| {
            drop((handle.status(), handle.generation(), handle.current()));
            let generation = if rejects {
                handle.generation()
            } else {
                u64::MAX
            };
            handle.rejected(generation, &rejection());
        }))
    }
}

/// Reads the status from another thread at each call, as a caller would while a slow writer blocks
/// this one.
#[derive(Clone, Debug, Default)]
struct Reader {
    supervisor: Arc<OnceLock<Supervisor>>,
    handle: Arc<OnceLock<CallHandle>>,
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
            if let Some(call) = handle {
                call.0(rejects);
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
    let _ = reader.handle.set(CallHandle::new(&db));
    let reports = supervisor
        .add_pool("reports", &credentials, database.clone())
        .await
        .expect("verified");

    // Rotations: in place, by replacement with an abandoned drain, overtaken by another one.
    provider.rotate();
    supervisor.rotate_now("login").await.expect("a report");
    database.disable_in_place();
    let held = database
        .opened()
        .first()
        .expect("one was opened")
        .connection();
    provider.rotate();
    provider.hint();
    sleep(100 * second()).await;
    drop(held);
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
    let held = database
        .opened()
        .last()
        .expect("one was opened")
        .connection();
    let report = supervisor.shutdown(2 * second()).await;
    drop((held, report));
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

/// Reads the status at each call of a method.
#[derive(Clone, Debug)]
struct ReadingPools {
    pools: ScriptedPools,
    reader: Reader,
}

impl PoolFactory for ReadingPools {
    type Secret = Credentials;
    type Pool = ScriptedPool;
    type Connection = ScriptedConnection;
    type Error = ConnectError;

    fn settings(&self) -> PoolSettings {
        self.reader.read("factory", "settings");
        self.pools.settings()
    }

    fn check(&self, lease: &Lease<Credentials>) -> Result<(), ConnectError> {
        self.reader.read("factory", "check");
        self.pools.check(lease)
    }

    fn vacant(&self) -> ScriptedPool {
        self.reader.read("factory", "vacant");
        self.pools.vacant()
    }

    async fn verify(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        self.reader.read("factory", "verify");
        self.pools.verify(credentials).await
    }

    fn account(&self, credentials: &Credentials) -> String {
        self.reader.read("factory", "account");
        self.pools.account(credentials)
    }

    fn server(&self, credentials: &Credentials) -> String {
        self.reader.read("factory", "server");
        self.pools.server(credentials)
    }

    fn open(&self, credentials: &Credentials) -> Result<ScriptedPool, ConnectError> {
        self.reader.read("factory", "open");
        self.pools.open(credentials)
    }

    async fn warm(&self, pool: &ScriptedPool, connections: u32) -> Result<u32, ConnectError> {
        self.reader.read("factory", "warm");
        self.pools.warm(pool, connections).await
    }

    fn refit(&self, pool: &ScriptedPool, old: &Credentials, new: &Credentials) -> bool {
        self.reader.read("factory", "refit");
        self.pools.refit(pool, old, new)
    }

    async fn drain(&self, pool: ScriptedPool) {
        self.reader.read("factory", "drain");
        self.pools.drain(pool).await;
    }

    fn connections(&self, pool: &ScriptedPool) -> u32 {
        self.reader.read("factory", "connections");
        self.pools.connections(pool)
    }

    fn idle(&self, pool: &ScriptedPool) -> u32 {
        self.reader.read("factory", "idle");
        self.pools.idle(pool)
    }

    fn classify(&self, error: &(dyn Error + 'static)) -> ConnectError {
        self.reader.read("factory", "fault");
        self.pools.classify(error)
    }

    fn try_get(&self, pool: &ScriptedPool) -> Option<Taken<ScriptedConnection>> {
        self.reader.read("factory", "try_get");
        self.pools.try_get(pool)
    }

    async fn get(&self, pool: &ScriptedPool) -> Result<Taken<ScriptedConnection>, ConnectError> {
        self.reader.read("factory", "get");
        self.pools.get(pool).await
    }

    async fn check_connection(
        &self,
        connection: &mut ScriptedConnection,
        check: Check,
    ) -> Result<(), ConnectError> {
        self.pools.check_connection(connection, check).await
    }

    fn discard(&self, connection: ScriptedConnection) {
        self.pools.discard(connection);
    }

    fn is_timeout(&self, error: &ConnectError) -> bool {
        self.pools.is_timeout(error)
    }

    fn is_closed(&self, error: &ConnectError) -> bool {
        self.pools.is_closed(error)
    }

    fn error(&self, error: AcquireError<'_>) -> ConnectError {
        self.pools.error(error)
    }
}

async fn reading_fixture() -> (Lab, ScriptedProvider, ReadingPools, Handle<ReadingPools>) {
    let (lab, provider) = (Lab::new(), ScriptedProvider::new());
    let pools = ReadingPools {
        pools: ScriptedPools::new(4),
        reader: Reader::default(),
    };
    let _ = pools.reader.supervisor.set(lab.supervisor.clone());
    let credentials = lab
        .supervisor
        .add_provider("login", provider.clone())
        .await
        .expect("a lease");
    let db = lab
        .supervisor
        .add_pool("orders", &credentials, pools.clone())
        .await
        .expect("verified");
    let _ = pools.reader.handle.set(CallHandle::new(&db));
    (lab, provider, pools, db)
}

#[tokio::test(start_paused = true)]
async fn a_factory_that_reads_the_status_never_waits_for_a_lock() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (lab, provider, ReadingPools { pools, reader }, db) = reading_fixture().await;
    provider.rotate();
    lab.supervisor.rotate_now("login").await.expect("a report");
    pools.disable_in_place();
    let held = pools.opened().last().expect("one was opened").connection();
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
    drop((held, report));

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
        "refit",
        "drain",
        "connections",
        "idle",
        "fault",
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
        let (_lab, provider, ReadingPools { reader, .. }, db) = reading_fixture().await;
        reader.rejects_in.store(nth, Ordering::Release);
        provider.rotate();
        provider.hint();
        // A wake calls `account` once, and there are ten by the heartbeat alone.
        sleep(Duration::from_secs(150)).await;
        assert!(
            reader.rejects_in.load(Ordering::Acquire) <= 0,
            "the hazard: the rejection was reported"
        );
        assert_eq!(
            *reader.stuck.lock().expect("no panic"),
            Vec::<String>::new(),
            "in call {nth}"
        );
        assert!(db.status().expect("supervised").serving);
    }
}
