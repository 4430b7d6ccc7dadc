//! needs: postgresql, pam
//!
//! Services that start from a file, on a real PostgreSQL.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger::PgPools;
use claviger::error::ConnectErrorKind;
use claviger_config::{Config, ConfigError, RunningPools};
use claviger_servers::Postgres;
use sqlx::query_scalar;
use tempfile::TempDir;
use tokio::time::Instant;

/// Longest time of a start that fails at once. A start that waits takes 30 s.
const AT_ONCE: Duration = Duration::from_secs(15);

struct Service {
    server: Postgres,
    folder: TempDir,
}

impl Service {
    fn new() -> Self {
        let server = Postgres::start().expect("a server");
        server.create_role("app", "first").expect("a role");
        let folder = TempDir::new().expect("a folder");
        let service = Self { server, folder };
        service.write("password", "first");
        service
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("written");
    }

    /// Returns the lines of a pool on this server.
    fn pool(&self, name: &str, more: &str) -> String {
        format!(
            "[pools.{name}]\nhost = \"{}\"\nport = {}\ndatabase = \"postgres\"\nuser = \"app\"\n\
             password = \"file:{}\"\n{more}\n",
            self.server.host(),
            self.server.port(),
            self.path("password").display()
        )
    }

    async fn start(&self, text: &str) -> Result<RunningPools, ConfigError> {
        self.write("claviger.toml", text);
        Config::load(self.path("claviger.toml"))?.start().await
    }
}

async fn connections_of(pools: &RunningPools, name: &str) -> String {
    let db = pools.get::<PgPools>(name).expect("the pool");
    let sql = "SELECT current_user || ' ' || current_setting('application_name')";
    query_scalar(sql).fetch_one(&db).await.expect("a row")
}

async fn shut_down(pools: RunningPools) {
    pools.supervisor().shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_found_by_name_and_follows_its_password_file() {
    let service = Service::new();
    let text = service.pool("orders", "application_name = \"orders-api\"")
        + &service.pool("invoices", "max_connections = 3");
    let pools = service.start(&text).await.expect("it starts");
    assert_eq!(pools.names().collect::<Vec<_>>(), ["invoices", "orders"]);
    assert_eq!(connections_of(&pools, "orders").await, "app orders-api");

    let db = pools.get::<PgPools>("orders").expect("the pool");
    let generation = db.generation();
    service.server.set_password("app", "second").expect("set");
    service.write("password", "second");
    let changed = async {
        while db.generation() == generation {
            db.changed().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), changed)
        .await
        .expect("the file is watched");
    assert_eq!(connections_of(&pools, "orders").await, "app orders-api");

    let unknown = pools.get::<PgPools>("oders").expect_err("no such pool");
    assert!(unknown.to_string().contains("`orders`"), "{unknown}");
    shut_down(pools).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fail_fast_ends_the_start_at_a_rejected_login_or_an_unknown_host() {
    let service = Service::new();
    service.write("password", "wrong");
    let text = format!(
        "[supervisor]\nfail_fast = true\n{}",
        service.pool("orders", "")
    );
    let began = Instant::now();
    let error = service.start(&text).await.expect_err("it is rejected");
    let cause = error.start_error().and_then(|error| error.connect_error());
    let cause = cause.expect("an error of the login");
    assert_eq!(cause.kind(), ConnectErrorKind::Rejected, "{error}");
    assert!(error.to_string().contains("pools.orders"), "{error}");

    let host = service.server.host();
    let text = text.replace(&format!("\"{host}\""), "\"absent.invalid\"");
    let error = service.start(&text).await.expect_err("no such host");
    assert!(error.to_string().contains("absent.invalid"), "{error}");
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

#[cfg(feature = "vault")]
#[tokio::test]
async fn fail_fast_ends_the_start_without_credentials_for_vault() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("claviger.toml");
    let text = "[supervisor]\nfail_fast = true\nstart_deadline = \"1h\"\n\
                [vaults.main]\naddress = \"https://vault.invalid:8200\"\n\
                auth = { kind = \"token\", token = \"file:/absent/token\" }\n\
                [providers.login]\nkind = \"vault-kv\"\npath = \"orders\"\n";
    std::fs::write(&file, text).expect("written");
    let start = Config::load(file).expect("it is valid").start();
    let started = tokio::time::timeout(AT_ONCE, start).await;
    let error = started.expect("at once").expect_err("no token");
    let shown = error.to_string();
    assert!(shown.contains("providers.login"), "{shown}");
    assert!(shown.contains("/absent/token"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_in_the_background_does_not_wait() {
    let service = Service::new();
    service.write("password", "wrong");
    let settings = "[supervisor]\nstart_in_background = true\n";
    let text = format!("{settings}{}", service.pool("orders", ""));
    let pools = service.start(&text).await.expect("it does not wait");
    assert!(!pools.supervisor().readiness().ready);
    service.server.set_password("app", "wrong").expect("set");
    assert_eq!(
        connections_of(&pools, "orders").await.split(' ').next(),
        Some("app")
    );
    shut_down(pools).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_start_leaves_no_connection() {
    let service = Service::new();
    // The second pool waits for a role that does not exist.
    let late = service.pool("late", "");
    let late = late.replace("user = \"app\"", "user = \"absent\"");
    let text = service.pool("orders", "min_connections = 1") + &late;
    let open = || service.server.connection_count("app").expect("a count");
    let first_opens = async {
        while open() == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        started = service.start(&text) => drop(started.expect_err("it waits")),
        () = first_opens => {}
    }
    let closes = async {
        while open() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), closes)
        .await
        .expect("the supervisor is shut down");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_of_the_service_is_named_by_a_pool() {
    let service = Service::new();
    let password = service.path("password");
    let provider = static_from(&password);
    let text = format!(
        "[pools.orders]\nurl = \"postgres://{}:{}/postgres\"\nprovider = \"own\"\n",
        service.server.host(),
        service.server.port()
    );
    service.write("claviger.toml", &text);
    let config = Config::load(service.path("claviger.toml")).expect("it is valid");
    let error = config.check().expect_err("no such provider");
    assert!(
        error.to_string().contains("pools.orders.provider"),
        "{error}"
    );
    let config = config.with_provider("own", provider);
    let pools = config.start().await.expect("it starts");
    assert!(pools.provider("own").is_some());
    assert_eq!(
        connections_of(&pools, "orders").await.split(' ').next(),
        Some("app")
    );
    shut_down(pools).await;
}

fn static_from(path: &Path) -> claviger::provider::StaticCredentials {
    let password = std::fs::read_to_string(path).expect("a password");
    claviger::static_credentials(claviger::Credentials::new("app", password))
}

/// The environment of a running process cannot be changed safely, so the service runs in a process
/// of its own.
#[cfg(feature = "rds-iam")]
#[test]
fn a_start_without_region_or_credentials_of_aws_ends_with_the_reason() {
    // Accepts connections and never responds.
    let metadata = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let metadata = metadata.local_addr().expect("an address");
    let folder = TempDir::new().expect("a folder");
    let start = |settings: &str, has_metadata: bool| {
        let file = folder.path().join("claviger.toml");
        let text = format!(
            "{settings}\n[pools.orders]\nhost = \"db.internal\"\nuser = \"app\"\n\
             aws_iam_auth = true\n"
        );
        std::fs::write(&file, text).expect("written");
        let mut service = std::process::Command::new(std::env::current_exe().expect("this test"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                service.env_remove(name);
            }
        }
        let output = service
            .args(["--exact", "start_without_aws", "--ignored", "--nocapture"])
            .env("CONFIG_FILE", file)
            .env("HOME", folder.path())
            .env("AWS_EC2_METADATA_DISABLED", (!has_metadata).to_string())
            .env(
                "AWS_EC2_METADATA_SERVICE_ENDPOINT",
                format!("http://{metadata}"),
            )
            .output()
            .expect("the service runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}");
        text
    };
    let shown = start("[supervisor]\nstart_deadline = \"1500ms\"\n", true);
    assert!(shown.contains("aws.region: is missing"), "{shown}");
    assert!(shown.contains("start still waits"), "{shown}");

    let settings = "[supervisor]\nfail_fast = true\nstart_deadline = \"1h\"\n\
                    [aws]\nregion = \"eu-west-1\"\n";
    let shown = start(settings, false);
    assert!(shown.contains("pools.orders.aws_iam_auth"), "{shown}");
    assert!(shown.contains("credentials"), "{shown}");
}

#[cfg(feature = "rds-iam")]
#[tokio::test]
#[ignore = "a part of another test, which runs it with an environment of its own"]
async fn start_without_aws() {
    let logged = claviger_fixtures::Capture::everything();
    let file = std::env::var_os("CONFIG_FILE").expect("it is set");
    let start = Config::load(PathBuf::from(file)).expect("valid").start();
    let started = tokio::time::timeout(4 * AT_ONCE, start).await;
    let error = started.expect("in time").expect_err("AWS is absent");
    let logged = logged.text();
    let warnings = logged
        .lines()
        .filter(|line| line.contains(" WARN claviger"));
    let warnings = warnings.collect::<Vec<_>>().join("\n");
    drop(std::io::Write::write_all(
        &mut std::io::stdout(),
        format!("{error}\n{warnings}\n").as_bytes(),
    ));
}

/// Thirty named pools of one file, ten of them with IAM tokens, on a server that verifies tokens as
/// RDS does. The service runs in a process of its own, as above.
#[cfg(feature = "rds-iam")]
#[test]
fn thirty_pools_with_and_without_iam_start_from_one_file() {
    let server = Postgres::builder().tokens().start().expect("a server");
    let (host, port) = (server.host(), server.port());
    let ca = server.ca_file().expect("it has TLS").display();
    let folder = TempDir::new().expect("a folder");
    let mut text = "[aws]\nregion = \"eu-west-1\"\n[defaults]\nmax_connections = 10\n\
                    connection_max_lifetime = \"14m\"\nidle_timeout = \"10m\"\n"
        .to_owned();
    let mut expected = Vec::new();
    for nth in 0..30 {
        let user = format!("app{nth:02}");
        let credentials = if nth % 3 == 0 {
            server.create_token_role(&user).expect("a role");
            format!("aws_iam_auth = true\nca_file = \"{ca}\"")
        } else {
            let password = folder.path().join(&user);
            std::fs::write(&password, format!("password-{nth}")).expect("written");
            let role = server.create_role(&user, &format!("password-{nth}"));
            role.expect("a role");
            format!("password = \"file:{}\"", password.display())
        };
        text += &format!(
            "[pools.database-{nth:02}]\nhost = \"{host}\"\nport = {port}\nuser = \"{user}\"\n\
             database = \"postgres\"\n{credentials}\n"
        );
        expected.push(format!("database-{nth:02} {user} 10 840s 600s 1 true"));
    }
    // A provider of tokens, without a setting of TLS or of ages.
    server.create_token_role("shared").expect("a role");
    text += &format!(
        "[pools.with-provider]\nhost = \"{host}\"\nport = {port}\ndatabase = \"postgres\"\n\
         provider = \"shared\"\n[providers.shared]\nkind = \"rds-iam\"\nhost = \"{host}\"\n\
         port = {port}\nuser = \"shared\"\n"
    );
    expected.push("with-provider shared 10 840s 600s 1 true".to_owned());
    let file = folder.path().join("claviger.toml");
    std::fs::write(&file, text).expect("written");
    let service = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "start_thirty", "--ignored", "--nocapture"])
        .env("CONFIG_FILE", file)
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "kestrel")
        .env("PGSSLROOTCERT", server.ca_file().expect("it has TLS"))
        .output()
        .expect("the service runs");
    let text = String::from_utf8_lossy(&service.stdout).into_owned();
    let error = String::from_utf8_lossy(&service.stderr).into_owned();
    assert!(service.status.success(), "{text}{error}");
    let pools: Vec<_> = text.lines().filter(|line| line.contains(" 10 ")).collect();
    assert_eq!(pools, expected, "{text}");
    let checks = server.token_checks().entries().expect("the checks");
    for user in (0..30).step_by(3).map(|nth| format!("app{nth:02}")) {
        let mut of_user = checks.iter().filter(|check| check.user == user);
        assert!(of_user.all(|check| check.accepted), "{user}: {checks:?}");
        assert!(checks.iter().any(|check| check.user == user), "{user}");
    }
    assert_eq!(server.log().rejected_logins().expect("the log"), 0);
}

#[cfg(feature = "rds-iam")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of another test, which runs it with an environment of its own"]
async fn start_thirty() {
    let file = std::env::var_os("CONFIG_FILE").expect("it is set");
    let config = Config::load(PathBuf::from(file)).expect("valid");
    let pools = config.start().await.expect("it starts");
    let mut lines = String::new();
    for name in pools.names() {
        let db = pools.get::<PgPools>(name).expect("the pool");
        let sql = "SELECT current_user || ' ' || ssl FROM pg_stat_ssl \
                   WHERE pid = pg_backend_pid()";
        let row: String = query_scalar(sql).fetch_one(&db).await.expect("a row");
        let (user, has_tls) = row.split_once(' ').expect("two words");
        let pool = db.current();
        let options = pool.options();
        let seconds = |age: Option<Duration>| age.unwrap_or_default().as_secs();
        lines += &format!(
            "\n{name} {user} {} {}s {}s {} {has_tls}",
            options.get_max_connections(),
            seconds(options.get_max_lifetime()),
            seconds(options.get_idle_timeout()),
            db.generation(),
        );
    }
    // A new token for one of them, and a handover.
    let supervisor = pools.supervisor();
    let rotated = supervisor.rotate_now("database-00-credentials").await;
    rotated.expect("it rotates");
    assert!(
        connections_of(&pools, "database-00")
            .await
            .starts_with("app00 ")
    );
    shut_down(pools).await;
    drop(std::io::Write::write_all(
        &mut std::io::stdout(),
        format!("{lines}\n").as_bytes(),
    ));
}
