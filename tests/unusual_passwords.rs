//! needs: postgresql, pgbouncer
//!
//! Passwords that SASLprep (RFC 4013) changes work wherever they work in psql.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use claviger::{Credentials, PgPools, Supervisor, fixed};
use claviger_fixtures::{Fixture, eventually_within, query};
use claviger_servers::pgbouncer::Users;
use claviger_servers::{PgBouncer, Postgres};
use claviger_testkit::{Lab, ScriptedProvider};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};

/// Passwords, and whether SASLprep changes them.
const PASSWORDS: [(&str, bool); 18] = [
    ("plain ASCII", false),
    ("caf\u{e9}", false),
    ("cafe\u{301}", true),
    ("no\u{a0}break", true),
    ("soft\u{ad}hyphen", true),
    ("zero\u{200b}width", true),
    ("\u{2003}em spaces\u{2003}", true),
    ("\u{ff30}\u{ff37} in full width", true),
    ("\u{fb01} ligature", true),
    ("\u{2168}", true),
    ("\u{d55c}\u{ae00}", false),
    ("\u{1112}\u{1161}\u{11ab} jamo", true),
    // SASLprep rejects these, so they are sent as they are: unassigned in Unicode 3.2, prohibited,
    // or of mixed direction.
    ("emoji \u{1f600}", false),
    ("cafe\u{301} \u{1f600}", false),
    ("subscript \u{2090}", false),
    ("tone\u{340} mark", false),
    ("a\u{5d0}", false),
    // Of mixed direction only after normalisation.
    ("x\u{2135}\u{2168}", true),
];

/// `password_encryption` of a role, and the method in pg_hba.conf.
const METHODS: [(&str, &str); 3] = [
    ("scram-sha-256", "scram-sha-256"),
    ("md5", "md5"),
    ("scram-sha-256", "password"),
];

async fn fixture_with(method: &str) -> Fixture {
    let line = format!("host all app 127.0.0.1/32 {method}");
    let start = move || {
        let server = Postgres::builder()
            .hba(line)
            .start()
            .expect("a server starts");
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
    Fixture::on(server, ScriptedProvider::new(), Lab::new())
}

fn set(fixture: &Fixture, encryption: &str, password: &str) {
    let sql =
        format!("SET password_encryption = '{encryption}'; ALTER ROLE app PASSWORD '{password}'");
    fixture.server.sql(&sql).expect("the password is set");
}

/// Runs psql as the role, over TCP.
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
    let credentials = fixture
        .supervisor
        .add_provider("login", fixed(Credentials::new("app", password)))
        .await
        .expect("a fixed provider");
    let pools = PgPools::new(options, fixture.pool_options(2));
    let outcome = match fixture
        .supervisor
        .add_pool("orders", &credentials, pools)
        .await
    {
        Ok(db) => {
            let outcome = query(&db).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn passwords_that_saslprep_changes_work_as_in_psql() {
    let mut hazards = 0;
    for (encryption, method) in METHODS {
        let fixture = fixture_with(method).await;
        for (password, changes) in PASSWORDS {
            set(&fixture, encryption, password);
            assert!(
                psql(&fixture, password, "SELECT 1"),
                "psql with {password:?} by {method}"
            );
            let works = plain_sqlx(fixture.connect_options(), password).await;
            hazards += usize::from(!works);
            assert_eq!(
                works,
                !(changes && method == "scram-sha-256"),
                "sqlx with {password:?} by {method}"
            );
            claviger(&fixture, fixture.connect_options(), password)
                .await
                .unwrap_or_else(|error| panic!("{password:?} by {method}: {error}"));
        }
    }
    assert!(hazards > 5, "the hazard: sqlx is rejected {hazards} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_that_saslprep_changes_work_through_a_pooler() {
    let fixture = Fixture::new().await;
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
    for (password, _) in PASSWORDS {
        set(&fixture, "scram-sha-256", password);
        let at = Arc::clone(&pooler);
        tokio::task::spawn_blocking(move || {
            at.set_password("app", password)
                .expect("the pooler reads its file")
        })
        .await
        .expect("no panic");
        let options = fixture
            .connect_options()
            .host(pooler.host())
            .port(pooler.port());
        claviger(&fixture, options, password)
            .await
            .unwrap_or_else(|error| panic!("{password:?}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_switches_from_md5_to_scram_is_logged_in_to_again() {
    let fixture = fixture_with("md5").await;
    let password = "cafe\u{301}";
    set(&fixture, "md5", password);
    let credentials = fixture
        .supervisor
        .add_provider("login", fixed(Credentials::new("app", password)))
        .await
        .expect("a fixed provider");
    let db = fixture
        .add_pool("orders", &credentials, fixture.pools(2))
        .await;
    query(&db).await.expect("the password is sent as it is");
    // The same password, stored by the server in the other form from now on.
    set(&fixture, "scram-sha-256", password);
    fixture.terminate_connections().await;
    let rejected = fixture.rejected_logins();
    assert!(
        query(&db).await.is_ok(),
        "the caller waits until the other form is verified"
    );
    assert!(
        fixture.rejected_logins() > rejected,
        "the hazard: the first form is rejected"
    );
    eventually_within(Duration::from_secs(5), "the pool serves callers", || {
        db.status().is_some_and(|status| status.serving)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_of_two_forms_costs_one_budget_and_is_named() {
    let fixture =
        Fixture::with_builder(Supervisor::builder().with_start_deadline(Duration::from_secs(6)))
            .await;
    let before = fixture.rejected_logins();
    let credentials = fixture
        .supervisor
        .add_provider("login", fixed(Credentials::new("app", "wrong\u{a0}one")))
        .await
        .expect("a fixed provider");
    let wrong = fixture
        .supervisor
        .add_pool("orders", &credentials, fixture.pools(2))
        .await
        .expect_err("rejected")
        .to_string();
    let rejected = fixture.rejected_logins() - before;
    assert!(
        (2..=5).contains(&rejected),
        "{rejected} failed logins with a maximum of 2"
    );
    assert!(
        wrong.contains("the password changes under SASLprep"),
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
        .expect("the role is created");
    let credentials = fixture
        .supervisor
        .add_provider("login", fixed(Credentials::new(user, "password-1")))
        .await
        .expect("a fixed provider");
    let error = fixture
        .supervisor
        .add_pool("orders", &credentials, fixture.pools(2))
        .await
        .expect_err("sqlx panics");
    assert!(
        !error.is_transient() && error.to_string().contains("user: "),
        "{error}"
    );
}
