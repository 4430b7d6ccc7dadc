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

/// What SASLprep makes of a password.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Saslprep {
    Same,
    Changes,
    /// It is sent as it is by libpq: unassigned in Unicode 3.2, prohibited, of two directions.
    Prohibits,
    /// The same, but only once it is normalised, or only before.
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
    // libpq takes it as it is, and sqlx 0.9 normalises it first.
    ("subscript \u{2090}", Order),
    ("tone\u{340} mark", Order),
    // Only once it is normalised it is of two directions: libpq looks before.
    ("x\u{2135}\u{2168}", Order),
];

/// Whether sqlx logs in by SCRAM with such a password; whether a pool does.
fn by_scram(password: &str, saslprep: Saslprep) -> (bool, bool) {
    if PREPARES_PASSWORDS {
        let works = matches!(saslprep, Same | Changes);
        (works, works)
    } else {
        // The first of the two is prohibited, and therefore the same.
        let changes = saslprep == Changes || password == "x\u{2135}\u{2168}";
        (!changes, true)
    }
}

/// How a role's password is set, and what pg_hba.conf demands of it.
const METHODS: [(&str, &str); 3] = [
    ("scram-sha-256", "scram-sha-256"),
    ("md5", "md5"),
    ("scram-sha-256", "password"),
];

/// A supervisor for logins that may be rejected again and again.
fn short_of_patience() -> Supervisor {
    Supervisor::builder()
        .with_start_deadline(Duration::from_secs(6))
        .start()
        .expect("it can be right")
}

async fn fixture_with(method: &str) -> Fixture {
    let line = format!("host all app 127.0.0.1/32 {method}");
    let start = move || {
        let server = Postgres::builder()
            .hba(line)
            .start()
            .expect("a server starts");
        server
            .create_role("app", "password-1")
            .expect("a role is made");
        server
            .create_database("orders", "app")
            .expect("a database is made");
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
        supervisor: short_of_patience(),
        clock,
        failpoints,
    }
}

fn set(fixture: &Fixture, encryption: &str, password: &str) {
    let sql =
        format!("SET password_encryption = '{encryption}'; ALTER ROLE app PASSWORD '{password}'");
    fixture.server.sql(&sql).expect("the password is set");
}

/// psql as the role, over TCP.
fn psql(fixture: &Fixture, password: &str, sql: &str) -> bool {
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

async fn plain_sqlx(options: PgConnectOptions, password: &str) -> bool {
    match options.username("app").password(password).connect().await {
        Ok(connection) => connection.close().await.is_ok(),
        Err(_) => false,
    }
}

async fn claviger(
    fixture: &Fixture,
    options: PgConnectOptions,
    password: &str,
) -> Result<(), String> {
    let login = fixture
        .supervisor
        .add_provider(
            "login",
            static_credentials(Credentials::new("app", password)),
        )
        .await
        .expect("it never changes");
    let pools = PgPools::new(options, fixture.pool_options(2));
    let outcome = match fixture.supervisor.add_pool("orders", &login, pools).await {
        Ok(db) => {
            let outcome = sqlx::query("SELECT 1").execute(&db).await;
            fixture
                .supervisor
                .remove_pool("orders")
                .await
                .expect("it was registered");
            outcome.map(drop).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    fixture
        .supervisor
        .remove_provider("login")
        .await
        .expect("it has no pool");
    outcome
}

/// Where a pool cannot log in, its error says why, and nothing of the password.
fn check(password: &str, ours: Result<(), String>, works: bool) {
    let error = match (ours, works) {
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
                psql(&fixture, password, "SELECT 1"),
                "psql with {password:?} by {method}"
            );
            let works = plain_sqlx(fixture.connect_options(), password).await;
            hazards += usize::from(!works);
            let (sqlx_does, ours_does) = if method == "scram-sha-256" {
                by_scram(password, saslprep)
            } else {
                (true, true)
            };
            assert_eq!(works, sqlx_does, "sqlx with {password:?} by {method}");
            let ours = claviger(&fixture, fixture.connect_options(), password).await;
            check(password, ours, ours_does);
        }
    }
    assert!(hazards > 5, "the hazard: sqlx is rejected, {hazards} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_that_saslprep_changes_work_through_a_pooler() {
    let mut fixture = Fixture::new().await;
    fixture.supervisor = short_of_patience();
    let users = Users::File(
        PASSWORDS.map(|(password, _)| ("app".to_owned(), password.to_owned()))[..1].to_vec(),
    );
    let pooler = fixture
        .on_the_server(move |server| {
            PgBouncer::builder(users)
                .start(server)
                .expect("a pooler starts")
        })
        .await;
    let pooler = Arc::new(pooler);
    for (password, saslprep) in PASSWORDS {
        set(&fixture, "scram-sha-256", password);
        let at = Arc::clone(&pooler);
        tokio::task::spawn_blocking(move || {
            at.set_password("app", password).expect("it reads its file")
        })
        .await
        .expect("no panic");
        let options = fixture
            .connect_options()
            .host(pooler.host())
            .port(pooler.port());
        let ours = claviger(&fixture, options, password).await;
        check(password, ours, by_scram(password, saslprep).1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_switches_from_md5_to_scram_is_logged_in_to_again() {
    let fixture = fixture_with("md5").await;
    let password = "cafe\u{301}";
    set(&fixture, "md5", password);
    let login = fixture
        .supervisor
        .add_provider(
            "login",
            static_credentials(Credentials::new("app", password)),
        )
        .await
        .expect("it never changes");
    let db = fixture
        .supervisor
        .add_pool("orders", &login, fixture.pools(2))
        .await
        .expect("verified");
    sqlx::query("SELECT 1")
        .execute(&db)
        .await
        .expect("the password is sent as it is");
    // The same password, of which the server keeps the other form from now on.
    set(&fixture, "scram-sha-256", password);
    fixture.terminate_connections().await;
    let rejected = fixture.rejected_logins();
    assert!(
        sqlx::query("SELECT 1").execute(&db).await.is_ok(),
        "the caller waits until the other form was verified"
    );
    assert!(
        PREPARES_PASSWORDS || fixture.rejected_logins() > rejected,
        "the hazard: the first form is rejected"
    );
    eventually_within(Duration::from_secs(5), "it serves", || {
        db.status().is_some_and(|status| status.serving)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_of_two_forms_costs_one_budget_and_is_named() {
    let mut fixture = Fixture::new().await;
    fixture.supervisor = short_of_patience();
    let before = fixture.rejected_logins();
    let login = fixture
        .supervisor
        .add_provider(
            "login",
            static_credentials(Credentials::new("app", "wrong\u{a0}one")),
        )
        .await
        .expect("it never changes");
    let wrong = fixture
        .supervisor
        .add_pool("orders", &login, fixture.pools(2))
        .await
        .expect_err("it is rejected")
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
async fn a_user_whose_name_saslprep_prohibits_is_named() {
    let fixture = fixture_with("scram-sha-256").await;
    let user = "\u{5d0}\u{5d1}";
    fixture
        .server
        .create_role(user, "password-1")
        .expect("PostgreSQL takes it");
    let login = fixture
        .supervisor
        .add_provider(
            "login",
            static_credentials(Credentials::new(user, "password-1")),
        )
        .await
        .expect("it never changes");
    let error = fixture
        .supervisor
        .add_pool("orders", &login, fixture.pools(2))
        .await
        .expect_err("sqlx panics, or reports it");
    assert!(
        !error.is_transient() && error.to_string().contains("user: "),
        "{error}"
    );
}
