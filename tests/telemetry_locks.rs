//! Whoever observes spans and log lines, and a factory of pools, may ask how things stand, and may
//! be slow: no lock that a caller needs is held meanwhile.

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

/// Held by each test. A thread without a subscriber that is the first at a span while another one
/// has just set its own would switch that span off for all.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// An answer that takes longer never comes.
const STUCK: Duration = Duration::from_secs(10);

/// Asks from another thread whenever it is called, as a caller would while a slow writer blocks
/// this one.
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

#[derive(Clone, Debug, Default)]
struct Asks {
    supervisor: Arc<OnceLock<Supervisor>>,
    /// Calls the methods of a handle; rejects its generation if told to.
    handle: Arc<OnceLock<CallHandle>>,
    /// How often it asked, by what it was called for.
    asked: Arc<Mutex<BTreeMap<String, u32>>>,
    stuck: Arc<Mutex<Vec<String>>>,
    /// After how many more calls of a factory's `account` what is served is reported as rejected,
    /// by another thread.
    rejects_in: Arc<AtomicI32>,
}

impl Asks {
    fn ask(&self, at: &str, name: &str) {
        thread_local!(static ASKING: Cell<bool> = const { Cell::new(false) });
        let Some(supervisor) = self.supervisor.get().cloned() else {
            return;
        };
        // One that is stuck says enough, and what is asked may log itself.
        if !self.stuck.lock().expect("no panic").is_empty() || ASKING.replace(true) {
            return;
        }
        *self
            .asked
            .lock()
            .expect("no panic")
            .entry(format!("{at} {name}"))
            .or_default() += 1;
        let handle = self.handle.get().cloned();
        let rejects = (at, name) == ("factory", "account")
            && self.rejects_in.fetch_sub(1, Ordering::AcqRel) == 1;
        let (done, answered) = mpsc::channel();
        thread::spawn(move || {
            ASKING.set(true);
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
        if answered.recv_timeout(STUCK).is_err() {
            self.stuck
                .lock()
                .expect("no panic")
                .push(format!("{at} {name}"));
        }
        ASKING.set(false);
    }

    fn ask_of(
        &self,
        at: &str,
        id: &Id,
        context: &Context<'_, impl Subscriber + for<'l> LookupSpan<'l>>,
    ) {
        self.ask(
            at,
            context.metadata(id).map_or("?", |metadata| metadata.name()),
        );
    }
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Asks {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        self.ask("new", attributes.metadata().name());
    }

    fn on_record(&self, id: &Id, _: &Record<'_>, context: Context<'_, S>) {
        self.ask_of("record", id, &context);
    }

    fn on_follows_from(&self, id: &Id, _: &Id, context: Context<'_, S>) {
        self.ask_of("follows", id, &context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        self.ask_of("enter", id, &context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        self.ask_of("exit", id, &context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        self.ask_of("close", &id, &context);
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.ask("event", event.metadata().target());
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_that_asks_for_the_status_never_waits_for_a_lock() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let asks = Asks::default();
    let _guard =
        tracing::subscriber::set_default(tracing_subscriber::registry().with(asks.clone()));
    let Lab { supervisor, .. } = Lab::new();
    let _ = asks.supervisor.set(supervisor.clone());
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
    let _ = asks.handle.set(CallHandle::new(&db));
    let reports = supervisor
        .add_pool("reports", &credentials, database.clone())
        .await
        .expect("verified");

    // Rotations: in place, by replacing with a drain that is abandoned, overtaken by another one.
    provider.rotate();
    supervisor.rotate_now("login").await.expect("it rotates");
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

    // A rejection that lasts, so that the rotation's span is followed by others; the store fails
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

    // Removal and shutdown, with a connection that does not come back, and a release that fails.
    provider.fail_releases(1, backend_down());
    supervisor.remove_pool("reports").await.expect("it goes");
    drop(reports);
    let held = database
        .opened()
        .last()
        .expect("one was opened")
        .connection();
    let report = supervisor.shutdown(2 * second()).await;
    drop((held, report));
    sleep(second()).await;

    assert_eq!(*asks.stuck.lock().expect("no panic"), Vec::<String>::new());
    let asked = asks.asked.lock().expect("no panic").clone();
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
            asked.contains_key(wanted),
            "the hazard: {wanted} is not among {asked:?}"
        );
    }
    assert!(
        asked["new credential.rotation"] > 8,
        "the hazard: one rotation in parts, {asked:?}"
    );
}

/// Asks whenever a method is called.
#[derive(Clone, Debug)]
struct AskingPools {
    pools: ScriptedPools,
    asks: Asks,
}

impl PoolFactory for AskingPools {
    type Secret = Credentials;
    type Pool = ScriptedPool;
    type Connection = ScriptedConnection;
    type Error = ConnectError;

    fn settings(&self) -> PoolSettings {
        self.asks.ask("factory", "settings");
        self.pools.settings()
    }

    fn check(&self, lease: &Lease<Credentials>) -> Result<(), ConnectError> {
        self.asks.ask("factory", "check");
        self.pools.check(lease)
    }

    fn vacant(&self) -> ScriptedPool {
        self.asks.ask("factory", "vacant");
        self.pools.vacant()
    }

    async fn verify(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        self.asks.ask("factory", "verify");
        self.pools.verify(credentials).await
    }

    fn account(&self, credentials: &Credentials) -> String {
        self.asks.ask("factory", "account");
        self.pools.account(credentials)
    }

    fn server(&self, credentials: &Credentials) -> String {
        self.asks.ask("factory", "server");
        self.pools.server(credentials)
    }

    fn open(&self, credentials: &Credentials) -> Result<ScriptedPool, ConnectError> {
        self.asks.ask("factory", "open");
        self.pools.open(credentials)
    }

    async fn warm(&self, pool: &ScriptedPool, connections: u32) -> Result<u32, ConnectError> {
        self.asks.ask("factory", "warm");
        self.pools.warm(pool, connections).await
    }

    fn refit(&self, pool: &ScriptedPool, old: &Credentials, new: &Credentials) -> bool {
        self.asks.ask("factory", "refit");
        self.pools.refit(pool, old, new)
    }

    async fn drain(&self, pool: ScriptedPool) {
        self.asks.ask("factory", "drain");
        self.pools.drain(pool).await;
    }

    fn connections(&self, pool: &ScriptedPool) -> u32 {
        self.asks.ask("factory", "connections");
        self.pools.connections(pool)
    }

    fn idle(&self, pool: &ScriptedPool) -> u32 {
        self.asks.ask("factory", "idle");
        self.pools.idle(pool)
    }

    fn classify(&self, error: &(dyn Error + 'static)) -> ConnectError {
        self.asks.ask("factory", "fault");
        self.pools.classify(error)
    }

    fn try_get(&self, pool: &ScriptedPool) -> Option<Taken<ScriptedConnection>> {
        self.asks.ask("factory", "try_get");
        self.pools.try_get(pool)
    }

    async fn get(&self, pool: &ScriptedPool) -> Result<Taken<ScriptedConnection>, ConnectError> {
        self.asks.ask("factory", "get");
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

async fn asking() -> (Lab, ScriptedProvider, AskingPools, Handle<AskingPools>) {
    let (lab, provider) = (Lab::new(), ScriptedProvider::new());
    let pools = AskingPools {
        pools: ScriptedPools::new(4),
        asks: Asks::default(),
    };
    let _ = pools.asks.supervisor.set(lab.supervisor.clone());
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
    let _ = pools.asks.handle.set(CallHandle::new(&db));
    (lab, provider, pools, db)
}

#[tokio::test(start_paused = true)]
async fn a_factory_that_asks_for_the_status_never_waits_for_a_lock() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (lab, provider, AskingPools { pools, asks }, db) = asking().await;
    provider.rotate();
    lab.supervisor
        .rotate_now("login")
        .await
        .expect("it rotates");
    pools.disable_in_place();
    let held = pools.opened().last().expect("one was opened").connection();
    provider.rotate();
    lab.supervisor
        .rotate_now("login")
        .await
        .expect("it rotates");
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

    assert_eq!(*asks.stuck.lock().expect("no panic"), Vec::<String>::new());
    let asked = asks.asked.lock().expect("no panic").clone();
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
            asked.contains_key(&format!("factory {wanted}")),
            "the hazard: {wanted} is not among {asked:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_factory_whose_thread_reports_a_rejection_never_waits_for_a_lock() {
    let _alone = ONE_AT_A_TIME.lock().await;
    for nth in 1..=8 {
        let (_lab, provider, AskingPools { asks, .. }, db) = asking().await;
        asks.rejects_in.store(nth, Ordering::Release);
        provider.rotate();
        provider.hint();
        // A wake calls `account` once, and there are ten by the heartbeat alone.
        sleep(Duration::from_secs(150)).await;
        assert!(
            asks.rejects_in.load(Ordering::Acquire) <= 0,
            "the hazard: it was reported"
        );
        assert_eq!(
            *asks.stuck.lock().expect("no panic"),
            Vec::<String>::new(),
            "in call {nth}"
        );
        assert!(db.status().expect("supervised").serving);
    }
}
