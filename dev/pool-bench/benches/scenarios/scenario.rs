//! The scenarios. Other libraries were measured with the same times.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use claviger::Supervisor;
use claviger_secrets_fixtures::{Secret, aws, secret_text, start_moto};
use claviger_secrets_manager::SecretsManager;
use claviger_servers::{InjectedFault, Moto, Proxy};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::callers::{CHANGE, Callers, Measured};
use crate::kind::{Database, Kind};

const CALLERS: usize = 16;
const FIRST: &str = "password-1";
const NEXT: &str = "password-2";
const SECRET: &str = "orders";

/// Sequence of changes to the password, the backend and the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// After 3 s server and backend have a new password, and all connections are terminated.
    Changed,
    /// After 3 s the server has a new password, the backend has it as pending, and all connections
    /// are terminated. After 8 s it is the backend's current password.
    Window,
    /// After 3 s server and backend have a new password. After 4 s there are 16 callers instead of
    /// two, which need new connections.
    Quiet,
    /// The backend is down from 3 to 8 s. After 5 s all connections are terminated. The password
    /// does not change.
    BackendDown,
}

impl Scenario {
    pub(crate) const ALL: [Self; 4] = [Self::Changed, Self::Window, Self::Quiet, Self::BackendDown];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Changed => "A: changed, connections terminated",
            Self::Window => "B: rotation window of 5 s, connections terminated",
            Self::Quiet => "C: changed, connections stay; then 16 callers instead of 2",
            Self::BackendDown => "D: backend down for 5 s, connections terminated",
        }
    }
}

/// Servers of one run.
struct Servers<D> {
    database: Arc<D>,
    /// Kept until the end of the run.
    _moto: Moto,
    secret: Secret,
    first_version: String,
    proxy: Proxy,
}

impl<D: Database> Servers<D> {
    async fn start() -> Self {
        let starting = spawn_blocking(|| D::start(FIRST));
        let moto = start_moto().await;
        let (secret, first_version) = Secret::create(&moto, SECRET, &secret_text(FIRST)).await;
        Self {
            database: Arc::new(starting.await.expect("no panic")),
            proxy: Proxy::start(&moto.endpoint()).expect("a proxy starts"),
            _moto: moto,
            secret,
            first_version,
        }
    }

    async fn on_the_database(&self, work: impl FnOnce(&D) + Send + 'static) {
        let database = Arc::clone(&self.database);
        let done = spawn_blocking(move || work(&database)).await;
        done.expect("no panic");
    }

    /// Changes the password at the server and then at the backend, at this staging label. Returns
    /// the version.
    async fn change_password(&self, label: &str) -> String {
        self.on_the_database(|database| database.change_password(NEXT))
            .await;
        self.secret.put(label, &secret_text(NEXT)).await
    }

    async fn terminate_connections(&self) {
        self.on_the_database(D::terminate_connections).await;
    }

    /// Runs a scenario with callers of `call`.
    async fn run<W>(
        &self,
        scenario: Scenario,
        call: impl Fn() -> W + Clone + Send + 'static,
    ) -> Measured
    where
        W: Future<Output = Result<(), String>> + Send,
    {
        let mut callers = Callers::new();
        let began = Instant::now();
        let at = async |seconds| sleep_until(began + Duration::from_secs(seconds)).await;
        let first = match scenario {
            Scenario::Quiet => 2,
            _ => CALLERS,
        };
        callers.add(first, &call);
        sleep_until(began + CHANGE).await;
        match scenario {
            Scenario::Changed => {
                self.change_password("AWSCURRENT").await;
                self.terminate_connections().await;
                at(10).await;
            }
            Scenario::Window => {
                let version = self.change_password("AWSPENDING").await;
                self.terminate_connections().await;
                at(8).await;
                let from = Some(self.first_version.as_str());
                self.secret
                    .move_label("AWSCURRENT", Some(&version), from)
                    .await;
                at(15).await;
            }
            Scenario::Quiet => {
                self.change_password("AWSCURRENT").await;
                at(4).await;
                callers.add(CALLERS - first, &call);
                at(10).await;
            }
            Scenario::BackendDown => {
                self.proxy.fault(InjectedFault::Refuse);
                at(5).await;
                self.terminate_connections().await;
                at(8).await;
                self.proxy.heal();
                at(12).await;
            }
        }
        let measured = callers.stop().await;
        let database = Arc::clone(&self.database);
        let failed_logins = spawn_blocking(move || database.rejected_logins()).await;
        Measured {
            failed_logins: failed_logins.expect("no panic"),
            fetches: self.proxy.requests("GetSecretValue"),
            ..measured
        }
    }
}

/// Measures Claviger's pool, then the plain pool, each on servers of its own.
pub(crate) async fn measure<K: Kind>(scenario: Scenario) -> (Measured, Measured) {
    let servers = Servers::<K::Server>::start().await;
    let supervisor = Supervisor::start();
    let provider = SecretsManager::new(&aws(&servers.proxy.endpoint()), SECRET);
    let provider = provider.expect("the settings are valid");
    let credentials = supervisor.add_provider("login", provider).await;
    let credentials = credentials.expect("a lease");
    let pool = supervisor.add_pool(SECRET, &credentials, K::pools(&servers.database));
    let pool = pool.await.expect("verified");
    let call = move || {
        let pool = pool.clone();
        async move { K::call(&pool).await }
    };
    let ours = servers.run(scenario, call).await;
    supervisor.shutdown(Duration::from_secs(10)).await;

    let servers = Servers::<K::Server>::start().await;
    let pool = K::plain(&servers.database, FIRST).await;
    let call = move || {
        let pool = pool.clone();
        async move { K::call_plain(&pool).await }
    };
    let plain = servers.run(scenario, call).await;
    (ours, plain)
}
