//! Pools of a file as tools see them.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::Provider as _;
use claviger::provider::{FetchRequest, Fetched};
use claviger_config::{Backend, Config, Connection, Engine, TlsMode};
use tempfile::TempDir;

/// A file with pools of several kinds.
const TEXT: &str = r#"
    [pools.cache]
    url = "rediss://cache.internal"
    user = "app"
    password = "file:FOLDER/password"
    [pools.cluster]
    kind = "redis-cluster"
    nodes = ["node-1.internal:7001", "node-2.internal"]
    provider = "shared"
    [pools.invoices]
    kind = "diesel-postgres"
    host = "db.internal"
    provider = "shared"
    [pools.orders]
    url = "postgres://db.internal:6543/orders?sslmode=require"
    provider = "shared"
    max_connections = 20
    connection_max_lifetime = "14m"
    [providers.shared]
    kind = "file"
    format = "password"
    user = "app"
    path = "FOLDER/password"
"#;

async fn connections(folder: &TempDir) -> Vec<Connection> {
    std::fs::write(folder.path().join("password"), "kestrel\n").expect("written");
    let path = folder.path().join("claviger.toml");
    let text = TEXT.replace("FOLDER", &folder.path().display().to_string());
    std::fs::write(&path, text).expect("written");
    let config = Config::load(path).expect("it is valid").for_tools();
    let connections = config.connections().await;
    connections.expect("kinds without a feature are accepted")
}

#[tokio::test]
async fn connections_have_the_settings_of_their_pools() {
    let folder = TempDir::new().expect("a folder");
    let connections = connections(&folder).await;
    let [cache, cluster, invoices, orders] = <[_; 4]>::try_from(connections).expect("four");
    assert_eq!(
        (cluster.host().as_str(), cluster.port()),
        ("node-1.internal", 7001)
    );
    assert_eq!((cache.engine(), cache.port()), (Engine::Redis, 6379));
    assert_eq!(cache.tls_mode(), TlsMode::VerifyFull);
    assert_eq!((cache.max_connections(), cache.max_lifetime()), (1, None));
    assert_eq!(invoices.kind(), "diesel-postgres");
    assert_eq!(invoices.tls_mode(), TlsMode::Prefer);
    assert_eq!((orders.name(), orders.port()), ("orders", 6543));
    assert_eq!(orders.tls_mode(), TlsMode::Require);
    assert_eq!((orders.max_connections(), orders.overlap()), (20, 5));
    assert_eq!(orders.max_lifetime(), Some(Duration::from_secs(840)));
    assert_eq!(orders.provider_name(), invoices.provider_name());
    let path = folder.path().join("password");
    assert_eq!(*cache.backend(), Backend::File { path });
    assert!(!format!("{cache:?} {orders:?}").contains("kestrel"));
}

#[tokio::test]
async fn the_provider_of_a_connection_returns_its_credentials() {
    let folder = TempDir::new().expect("a folder");
    for connection in connections(&folder).await {
        let provider = connection.provider().expect("it is valid");
        let fetched = provider.fetch(FetchRequest::first()).await;
        let credentials = match fetched.expect("the file is read") {
            Fetched::New(lease) => Some(lease.secret().clone()),
            _ => None,
        };
        let credentials = credentials.expect("a first fetch returns a lease");
        assert_eq!(credentials.user(), "app");
        assert_eq!(credentials.expose_password(), "kestrel");
    }
}
