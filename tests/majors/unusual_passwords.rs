//! Passwords that SASLprep (RFC 4013) changes work wherever they work in psql.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::fixtures::sqlx::postgres::PgConnectOptions;
use super::fixtures::sqlx::{ConnectOptions, Connection};
use claviger::{Credentials, Supervisor, static_credentials};
use claviger_servers::pgbouncer::Users;
use claviger_servers::{PgBouncer, Postgres};
use claviger_testkit::{Lab, ScriptedProvider};

use super::fixtures::pools::PgPools;
use super::fixtures::{Fixture, FixtureOn, PREPARES_PASSWORDS, eventually_within, sqlx};

/// How SASLprep treats a password.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Saslprep {
    Same,
    Changes,
    /// Prohibited: unassigned in Unicode 3.2, a prohibited character, or text of two directions.
    /// libpq sends such a password unchanged.
    Prohibits,
    /// Prohibited only before normalisation, or only after it.
    Order,
}

use Saslprep::{Changes, Order, Prohibits, Same};

const PASSWORDS: [(&str, Saslprep); 18] = [
    ("plain ASCII", Same),
    ("caf\u{e9}", Same),
    ("cafe\u{301}", Changes),
    ("no\u{a0}break", Changes),
    ("soft\u{ad}hyphen", Changes),
    ("zero\u{200b}width", Changes),
    ("\u{2003}em spaces\u{2003}", Changes),
    ("\u{ff30}\u{ff37} in full width", Changes),
    ("\u{fb01} ligature", Changes),
    ("\u{2168}", Changes),
    ("\u{d55c}\u{ae00}", Same),
    ("\u{1112}\u{1161}\u{11ab} jamo", Changes),
    ("emoji \u{1f600}", Prohibits),
    ("cafe\u{301} \u{1f600}", Prohibits),
    ("a\u{5d0}", Prohibits),
    // Prohibited before normalisation: libpq sends them unchanged, but sqlx 0.9 normalises first.
    ("subscript \u{2090}", Order),
    ("tone\u{340} mark", Order),
    // Of two directions only after normalisation: libpq checks before it.
    ("x\u{2135}\u{2168}", Order),
];

/// Returns whether sqlx logs in by SCRAM with such a password, and whether a pool does.
fn scram_logins(password: &str, saslprep: Saslprep) -> (bool, bool) {
    if PREPARES_PASSWORDS {
        let succeeds = matches!(saslprep, Same | Changes);
        (succeeds, succeeds)
    } else {
        // Of those of `Order`, PostgreSQL normalises this one and leaves the others unchanged.
        let changes = saslprep == Changes || password == "x\u{2135}\u{2168}";
        (!changes, true)
    }
}

/// `password_encryption` when the role's password is set, and the method in pg_hba.conf.
const METHODS: [(&str, &str); 3] = [
    ("scram-sha-256", "scram-sha-256"),
    ("md5", "md5"),
    ("scram-sha-256", "password"),
];

/// Starts a supervisor with a short deadline, because many starts here end with a rejection.
fn impatient_supervisor() -> Supervisor {
    Supervisor::builder()
        .with_start_deadline(Duration::from_secs(6))
        .start()
        .expect("the settings are right")
}

async fn fixture_with(method: &str) -> Fixture {
    let line = format!("host all app 127.0.0.1/32 {method}");
    let start = move || {
        let server = Postgres::builder()
            .hba(line)
            .start()
            .expect("the server starts");
        server
            .create_role("app", "password-1")
            .expect("the role is created");
        server
            .create_database("orders", "app")
            .expect("the database is created");
        server
    };
    let server = tokio::task::spawn_blocking(start)
        .await
        .expect("the server's thread ends");
    let Lab {
        clock, failpoints, ..
    } = Lab::new();
    FixtureOn {
        server: Arc::new(server),
        provider: ScriptedProvider::new(),
        supervisor: impatient_supervisor(),
        clock,
        failpoints,
    }
}

fn set(fixture: &Fixture, encryption: &str, password: &str) {
    let sql =
        format!("SET password_encryption = '{encryption}'; ALTER ROLE app PASSWORD '{password}'");
    fixture.server.sql(&sql).expect("the password is set");
}

/// Returns whether psql runs a statement as the role, over TCP.
fn psql_succeeds(fixture: &Fixture, password: &str, sql: &str) -> bool {
    let psql = fixture.server.programs().join("psql");
    let mut command = Command::new(if psql.exists() {
        psql.as_os_str()
    } else {
        "psql".as_ref()
    });
    let target = format!(
        "host={} port={} user=app dbname=orders connect_timeout=10",
        fixture.server.host(),
        fixture.server.port()
    );
    command
        .args(["-X", "-q", "-w", "-d", &target, "-c", sql])
        .env("PGPASSWORD", password)
        .env("PGCLIENTENCODING", "UTF8");
    command.output().expect("psql runs").status.success()
}

/// Returns whether sqlx logs in without a pool.
async fn sqlx_logs_in(options: PgConnectOptions, password: &str) -> bool {
    match options.username("app").password(password).connect().await {
        Ok(connection) => connection.close().await.is_ok(),
        Err(_) => false,
    }
}

/// Registers a pool with this password, and queries once.
async fn query_a_pool(
    fixture: &Fixture,
    options: PgConnectOptions,
    password: &str,
) -> Result<(), String> {
    let credentials = fixture
        .supervisor
        .add_provider(
            "login",
            static_credentials(Credentials::new("app", password)),
        )
        .await
        .expect("a lease");
    let pools = PgPools::new(options, fixture.pool_options(2));
    let outcome = match fixture
        .supervisor
        .add_pool("orders", &credentials, pools)
        .await
    {
        Ok(db) => {
            let outcome = sqlx::query("SELECT 1").execute(&db).await;
            fixture
                .supervisor
                .remove_pool("orders")
                .await
                .expect("the pool is removed");
            outcome.map(drop).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    fixture
        .supervisor
        .remove_provider("login")
        .await
        .expect("the provider is removed");
    outcome
}

/// Asserts the outcome of a pool's query. Its error names the cause and shows nothing of the
/// password.
fn assert_outcome(password: &str, ours: Result<(), String>, succeeds: bool) {
    let error = match (ours, succeeds) {
        (Ok(()), true) => return,
        (Err(error), false) => error,
        (ours, _) => panic!("{password:?}: {ours:?}"),
    };
    assert!(
        error.contains("password: SASLprep prohibits") || error.contains("(rejected, SQLSTATE"),
        "{password:?}: {error}"
    );
    let unusual = |c: &char| !c.is_ascii();
    assert!(
        !error.contains(|c| password.contains(c) && unusual(&c)),
        "{error}"
    );
    assert!(!error.contains("Prohibited"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_that_saslprep_changes_work_as_in_psql() {
    let mut hazards = 0;
    for (encryption, method) in METHODS {
        let fixture = fixture_with(method).await;
        for (password, saslprep) in PASSWORDS {
            set(&fixture, encryption, password);
            assert!(
                psql_succeeds(&fixture, password, "SELECT 1"),
                "psql with {password:?} by {method}"
            );
            let logs_in = sqlx_logs_in(fixture.connect_options(), password).await;
            hazards += usize::from(!logs_in);
            let (expected, ours_succeeds) = if method == "scram-sha-256" {
                scram_logins(password, saslprep)
            } else {
                (true, true)
            };
            assert_eq!(logs_in, expected, "sqlx with {password:?} by {method}");
            let ours = query_a_pool(&fixture, fixture.connect_options(), password).await;
            assert_outcome(password, ours, ours_succeeds);
        }
    }
    assert!(hazards > 5, "the hazard: sqlx was rejected {hazards} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_that_saslprep_changes_work_through_a_pooler() {
    let mut fixture = Fixture::new().await;
    fixture.supervisor = impatient_supervisor();
    let users = Users::File(
        PASSWORDS.map(|(password, _)| ("app".to_owned(), password.to_owned()))[..1].to_vec(),
    );
    let pooler = fixture
        .on_the_server(move |server| {
            PgBouncer::builder(users)
                .start(server)
                .expect("the pooler starts")
        })
        .await;
    let pooler = Arc::new(pooler);
    for (password, saslprep) in PASSWORDS {
        set(&fixture, "scram-sha-256", password);
        let setting = Arc::clone(&pooler);
        tokio::task::spawn_blocking(move || {
            setting
                .set_password("app", password)
                .expect("the pooler reads its file")
        })
        .await
        .expect("no panic");
        let options = fixture
            .connect_options()
            .host(pooler.host())
            .port(pooler.port());
        let ours = query_a_pool(&fixture, options, password).await;
        assert_outcome(password, ours, scram_logins(password, saslprep).1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_logs_in_again_after_its_server_switched_from_md5_to_scram() {
    let fixture = fixture_with("md5").await;
    let password = "cafe\u{301}";
    set(&fixture, "md5", password);
    let credentials = fixture
        .supervisor
        .add_provider(
            "login",
            static_credentials(Credentials::new("app", password)),
        )
        .await
        .expect("a lease");
    let db = fixture
        .supervisor
        .add_pool("orders", &credentials, fixture.pools(2))
        .await
        .expect("verified");
    sqlx::query("SELECT 1")
        .execute(&db)
        .await
        .expect("md5 hashes the password unchanged");
    // The same password, of which the server now stores the normalised form.
    set(&fixture, "scram-sha-256", password);
    fixture.terminate_connections().await;
    let rejected = fixture.rejected_logins();
    assert!(
        sqlx::query("SELECT 1").execute(&db).await.is_ok(),
        "the caller waits until the normalised form is verified"
    );
    assert!(
        PREPARES_PASSWORDS || fixture.rejected_logins() > rejected,
        "the hazard: the unchanged form is rejected"
    );
    eventually_within(Duration::from_secs(5), "the pool serves callers", || {
        db.status().is_some_and(|status| status.serving)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_of_two_forms_costs_one_budget_and_its_error_names_saslprep() {
    let mut fixture = Fixture::new().await;
    fixture.supervisor = impatient_supervisor();
    let before = fixture.rejected_logins();
    let credentials = fixture
        .supervisor
        .add_provider(
            "login",
            static_credentials(Credentials::new("app", "wrong\u{a0}one")),
        )
        .await
        .expect("a lease");
    let wrong = fixture
        .supervisor
        .add_pool("orders", &credentials, fixture.pools(2))
        .await
        .expect_err("the password is wrong")
        .to_string();
    let rejected = fixture.rejected_logins() - before;
    assert!(
        (2..=5).contains(&rejected),
        "{rejected} failed logins with a maximum of 2"
    );
    assert_eq!(
        wrong.contains("the password changes under SASLprep"),
        !PREPARES_PASSWORDS,
        "{wrong}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_error_names_the_user_field_when_saslprep_prohibits_its_name() {
    let fixture = fixture_with("scram-sha-256").await;
    let user = "\u{5d0}\u{5d1}";
    fixture
        .server
        .create_role(user, "password-1")
        .expect("PostgreSQL accepts the name");
    let credentials = fixture
        .supervisor
        .add_provider(
            "login",
            static_credentials(Credentials::new(user, "password-1")),
        )
        .await
        .expect("a lease");
    let error = fixture
        .supervisor
        .add_pool("orders", &credentials, fixture.pools(2))
        .await
        .expect_err("sqlx panics, or returns an error");
    assert!(
        !error.is_transient() && error.to_string().contains("user: "),
        "{error}"
    );
}
