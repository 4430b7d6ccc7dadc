//! needs: postgresql, pgbouncer
//!
//! Rotations behind a connection pooler, which reports everything as 08P01.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use claviger::events::Event;
use claviger::{Handle, PgPools};
use claviger_fixtures::Fixture;
use claviger_servers::PgBouncer;
use claviger_servers::pgbouncer::{PoolMode, Users};
use futures_util::future::join_all;
use sqlx::postgres::PgPoolOptions;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

const MAX: u32 = 4;
/// Longer than any step here takes; a hanging test fails after this time.
const PATIENCE: Duration = Duration::from_secs(40);

fn auth_file() -> Users {
    Users::File(vec![("app".to_owned(), "password-1".to_owned())])
}

/// Returns a fixture, a pooler in front of its server, and a pool that connects through the pooler.
async fn pooled(
    mode: PoolMode,
    users: Users,
    options: impl FnOnce(PgPoolOptions) -> PgPoolOptions,
) -> (Fixture, Arc<PgBouncer>, Handle<PgPools>) {
    let fixture = Fixture::new().await;
    let builder = PgBouncer::builder(users)
        .mode(mode)
        .setting("query_wait_timeout", "1");
    let pooler = fixture
        .on_the_server(move |server| builder.start(server).expect("a pooler starts"))
        .await;
    let connect = fixture
        .connect_options()
        .host(pooler.host())
        .port(pooler.port());
    let pools = PgPools::new(connect, options(fixture.pool_options(MAX)));
    let db = fixture.pool_from(pools).await;
    (fixture, Arc::new(pooler), db)
}

async fn on_the_pooler<T: Send + 'static>(
    pooler: &Arc<PgBouncer>,
    work: impl FnOnce(&PgBouncer) -> T + Send + 'static,
) -> T {
    let pooler = Arc::clone(pooler);
    tokio::task::spawn_blocking(move || work(&pooler))
        .await
        .expect("the pooler's thread ends")
}

/// Sets the pooler's password, if the pooler keeps passwords itself.
async fn update_pooler(pooler: &Arc<PgBouncer>, users: &Users, password: &str) {
    if matches!(users, Users::File(_)) {
        let password = password.to_owned();
        on_the_pooler(pooler, move |pooler| {
            pooler
                .set_password("app", &password)
                .expect("the pooler reads its file")
        })
        .await;
    }
}

/// Closes all connections through the pooler.
async fn restart_pooler(pooler: &Arc<PgBouncer>) {
    on_the_pooler(pooler, |pooler| {
        pooler.start_again().expect("the pooler starts again")
    })
    .await;
}

async fn query(db: &Handle<PgPools>) -> Result<(), sqlx::Error> {
    // A prepared statement belongs to one connection of the pooler; the next message may reach
    // another.
    sqlx::raw_sql("SELECT 1").execute(db).await.map(drop)
}

/// Queries until one succeeds. Returns the messages of those that failed.
async fn until_served(db: &Handle<PgPools>) -> Vec<String> {
    let (began, mut failed) = (Instant::now(), Vec::new());
    while let Err(error) = query(db).await {
        failed.push(error.to_string());
        assert!(began.elapsed() < PATIENCE, "never served: {failed:?}");
        sleep(Duration::from_millis(20)).await;
    }
    failed
}

fn rejections(pooler: &PgBouncer) -> usize {
    pooler
        .log_count("pooler error: SASL authentication failed")
        .expect("the log can be read")
}

async fn a_rotation_costs_one_fetch(mode: PoolMode, users: Users) {
    let (fixture, pooler, db) = pooled(mode, users.clone(), |options| options).await;
    let mut events = fixture.supervisor.events();
    query(&db).await.expect("the query succeeds");
    // An unannounced rotation; the backend has the new password.
    let password = fixture.provider.rotate();
    fixture.set_password(&password).await;
    update_pooler(&pooler, &users, &password).await;
    restart_pooler(&pooler).await;
    for outcome in join_all((0..20).map(|_| query(&db))).await {
        outcome.expect("served after the fetch");
    }
    assert_eq!(
        fixture.provider.calls().len(),
        2,
        "one fetch after the start"
    );
    assert_eq!(db.generation(), 2);
    let failed = rejections(&pooler);
    assert!(
        (1..=MAX as usize + 3).contains(&failed),
        "{failed} failed logins"
    );
    assert!(fixture.supervisor.readiness().ready);
    fixture.supervisor.shutdown(Duration::from_secs(5)).await;
    let mut rejected = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Rejected { error, .. } = event {
            rejected.push(error.code().map(str::to_owned));
        }
    }
    assert_eq!(
        rejected,
        [Some("08P01".to_owned())],
        "the pooler rejected the credential, once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_in_session_mode_with_an_auth_file_costs_one_fetch() {
    a_rotation_costs_one_fetch(PoolMode::Session, auth_file()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_in_session_mode_with_an_auth_query_costs_one_fetch() {
    a_rotation_costs_one_fetch(PoolMode::Session, Users::Query).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_in_transaction_mode_with_an_auth_file_costs_one_fetch() {
    a_rotation_costs_one_fetch(PoolMode::Transaction, auth_file()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_in_transaction_mode_with_an_auth_query_costs_one_fetch() {
    a_rotation_costs_one_fetch(PoolMode::Transaction, Users::Query).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_served_once_the_auth_file_is_updated() {
    let (fixture, pooler, db) = pooled(PoolMode::Transaction, auth_file(), |options| options).await;
    query(&db).await.expect("the query succeeds");
    let password = fixture.provider.rotate();
    fixture.set_password(&password).await;
    fixture.terminate_connections().await;
    restart_pooler(&pooler).await;
    // The pooler still accepts the old password of clients, but the server rejects the pooler.
    let error = query(&db).await.expect_err("the server is down");
    assert!(!fixture.supervisor.readiness().ready, "{error}");
    update_pooler(&pooler, &auth_file(), &password).await;
    until_served(&db).await;
    assert_eq!(db.generation(), 2);
    assert!(fixture.supervisor.readiness().ready);
    let failed = rejections(&pooler);
    assert!(failed <= 2 * (MAX as usize + 3), "{failed} failed logins");
}

async fn callers_are_served_after_an_outage(users: Users) {
    let (fixture, pooler, db) = pooled(PoolMode::Transaction, users, |options| options).await;
    query(&db).await.expect("the query succeeds");
    fixture
        .on_the_server(|server| server.stop().expect("the server stops"))
        .await;
    let down = Instant::now();
    while down.elapsed() < Duration::from_secs(12) {
        query(&db).await.expect_err("the server is down");
        sleep(Duration::from_millis(20)).await;
    }
    let logins = on_the_pooler(&pooler, |pooler| pooler.log_count("login attempt"))
        .await
        .expect("the log can be read");
    fixture
        .on_the_server(|server| server.start_again().expect("the server starts"))
        .await;
    let up = Instant::now();
    until_served(&db).await;
    // The pooler returns its cached error for a second, and each login makes it try once.
    let served_after = up.elapsed();
    assert!(served_after < Duration::from_secs(8), "{served_after:?}");
    assert!(fixture.supervisor.readiness().ready);
    assert_eq!(rejections(&pooler), 0);
    assert!(
        fixture.provider.calls().len() <= 10,
        "{} fetches",
        fixture.provider.calls().len()
    );
    assert!(logins <= 60, "{logins} logins in 12 seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_served_after_an_outage_behind_an_auth_file() {
    callers_are_served_after_an_outage(auth_file()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_served_after_an_outage_behind_an_auth_query() {
    callers_are_served_after_an_outage(Users::Query).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_error_of_every_login_ends_readiness() {
    let (fixture, pooler, db) = pooled(PoolMode::Session, auth_file(), |options| {
        options.max_lifetime(Duration::from_millis(1))
    })
    .await;
    query(&db).await.expect("the query succeeds");
    let set = |value: &'static str| {
        let pooler = Arc::clone(&pooler);
        async move {
            let command = format!("SET ignore_startup_parameters = '{value}'");
            on_the_pooler(&pooler, move |pooler| {
                pooler.console(&command).expect("the setting is changed")
            })
            .await
        }
    };
    set("application_name").await;
    let began = Instant::now();
    while fixture.supervisor.readiness().ready {
        // An open connection may still work.
        let _ = query(&db).await;
        assert!(
            began.elapsed() < PATIENCE,
            "ready though no login works: {:?}",
            db.status()
        );
        sleep(Duration::from_millis(50)).await;
    }
    let status = db.status().expect("the supervisor runs");
    assert!(
        status
            .last_error
            .is_some_and(|error| error.message().contains("unsupported startup parameter"))
    );
    assert_eq!(
        fixture.provider.calls().len(),
        1,
        "the error causes no fetch"
    );
    set("extra_float_digits").await;
    while !fixture.supervisor.readiness().ready {
        assert!(
            began.elapsed() < 2 * PATIENCE,
            "not ready though logins work: {:?}",
            db.status()
        );
        sleep(Duration::from_millis(50)).await;
    }
    query(&db).await.expect("the query succeeds again");
}

/// One caller queries while the server behind the pooler is down. Each call returns the cause, and
/// few logins are made.
async fn one_caller_causes_few_logins_during_an_outage(mode: PoolMode, users: Users) {
    const WATCHED: Duration = Duration::from_secs(5);
    const DEADLINE: Duration = Duration::from_secs(2);
    let (fixture, pooler, db) =
        pooled(mode, users, |options| options.acquire_timeout(DEADLINE)).await;
    query(&db).await.expect("the query succeeds");
    fixture
        .on_the_server(|server| server.stop().expect("the server stops"))
        .await;
    let logins = || {
        on_the_pooler(&pooler, |pooler| {
            pooler
                .log_count("login attempt")
                .expect("the log can be read")
        })
    };
    let (before, end) = (logins().await, Instant::now() + WATCHED);
    let mut causes = Vec::new();
    // The open connections fail first. Each call that returns is an error that its caller sees. The
    // last call is cancelled, so that logins are counted for exactly this time.
    while causes.len() <= MAX as usize
        && let Ok(result) = timeout_at(end, query(&db)).await
    {
        causes.push(result.expect_err("the server is down").to_string());
    }
    sleep_until(end).await;
    let made = logins().await - before;
    assert!(made <= 8, "{made} logins in five seconds: {causes:#?}");
    assert!(causes.len() >= 2, "{causes:#?}");
    let names_the_cause = |cause: &String| {
        [
            "server login",
            "query_wait_timeout",
            "connect failed",
            "server conn",
            "terminating connection",
        ]
        .iter()
        .any(|text| cause.contains(text))
    };
    assert!(causes.iter().all(names_the_cause), "{causes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_causes_few_logins_during_an_outage_in_session_mode() {
    one_caller_causes_few_logins_during_an_outage(PoolMode::Session, auth_file()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_causes_few_logins_during_an_outage_in_transaction_mode() {
    one_caller_causes_few_logins_during_an_outage(PoolMode::Transaction, auth_file()).await;
}
