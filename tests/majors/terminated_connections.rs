//! The server terminates a connection (57P01) of a lease that ends its connections. The role may be
//! gone, so each connection is probed until a probe of the pool succeeds.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::Handle;
use claviger::lease::OldConnections;
use claviger_testkit::ScriptedProvider;
use tokio::time::{sleep, timeout};

use super::fixtures::pools::PgPools;
use super::fixtures::sqlx::pool::PoolConnection;
use super::fixtures::{Fixture, eventually_within, sqlstate, sqlx};

const MAX: u32 = 6;
/// Longer than any step here, shorter than a hanging test may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Counts the probes and blocks the one with the given number. The function runs as its owner,
/// which is never dropped.
const PROBE: &str = "CREATE SEQUENCE probes;
    CREATE TABLE blocked (number bigint);
    CREATE FUNCTION probe() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
        DECLARE mine bigint := nextval('probes');
        BEGIN
            WHILE EXISTS (SELECT FROM blocked WHERE number = mine) LOOP PERFORM pg_sleep(0.01); END LOOP;
        END $$";

async fn probes(fixture: &Fixture) -> i64 {
    fixture
        .sql("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM probes")
        .await
        .trim()
        .parse()
        .expect("a number")
}

async fn pooled(connections: OldConnections) -> (Fixture, Handle<PgPools>) {
    let fixture = Fixture::with(
        ScriptedProvider::new()
            .with_old_connections(connections)
            .with_lifetime(Duration::from_secs(3_600)),
    )
    .await;
    fixture.sql(PROBE).await;
    let pools = PgPools::new(fixture.connect_options(), fixture.pool_options(MAX))
        .with_probe_sql("SELECT probe(), current_user, session_user");
    let db = fixture.pool_from(pools).await;
    (fixture, db)
}

/// Terminates the connection of a statement and blocks the next probe, which is the pool's own.
/// That probe uses the connection `idle`, or logs in. Returns the probe's number.
async fn terminate_a_statement(
    fixture: &Fixture,
    db: &Handle<PgPools>,
    idle: Option<PoolConnection<sqlx::Postgres>>,
    and: &str,
) -> i64 {
    let running = tokio::spawn({
        let db = db.clone();
        async move { sqlx::query("SELECT pg_sleep(600)").execute(&db).await }
    });
    let statement = "FROM pg_stat_activity WHERE usename = 'app' AND state = 'active' AND query LIKE '%pg_sleep(600)%'";
    let began = tokio::time::Instant::now();
    while fixture
        .sql(&format!("SELECT count(*) {statement}"))
        .await
        .trim()
        != "1"
    {
        assert!(began.elapsed() < PATIENCE, "the statement never ran");
        sleep(Duration::from_millis(10)).await;
    }
    if idle.is_some() {
        drop(idle);
        eventually_within(PATIENCE, "the connection is idle", || {
            db.current().num_idle() == 1
        })
        .await;
    }
    let number = probes(fixture).await + 1;
    fixture.sql(&format!("INSERT INTO blocked VALUES ({number}); CREATE TEMPORARY TABLE victims AS SELECT pid {statement}; {and} SELECT pg_terminate_backend(pid) FROM victims")).await;
    let error = running
        .await
        .expect("no panic")
        .expect_err("the server terminated the connection");
    assert_eq!(sqlstate(&error).as_deref(), Some("57P01"));
    number
}

async fn until_probed(fixture: &Fixture, number: i64) {
    let began = tokio::time::Instant::now();
    while probes(fixture).await < number {
        assert!(began.elapsed() < PATIENCE, "the pool never probed");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn acquire(db: &Handle<PgPools>) -> PoolConnection<sqlx::Postgres> {
    timeout(PATIENCE, db.acquire())
        .await
        .expect("within the timeout")
        .expect("a connection")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_connection_is_probed_until_the_pool_s_own_probe_succeeds() {
    let (fixture, db) = pooled(OldConnections::EndWithLease).await;
    let before = probes(&fixture).await;
    let mut connections = vec![acquire(&db).await, acquire(&db).await];
    assert_eq!(
        probes(&fixture).await,
        before,
        "the hazard: without a cause nothing is probed"
    );

    // Both connections are in use: the pool's own probe logs in.
    let number = terminate_a_statement(&fixture, &db, None, "").await;
    until_probed(&fixture, number).await;
    for more in 1..=2 {
        connections.push(acquire(&db).await);
        assert_eq!(
            probes(&fixture).await,
            number + more,
            "a new connection was probed"
        );
    }
    connections.clear();
    for more in 3..=5 {
        drop(acquire(&db).await);
        assert_eq!(
            probes(&fixture).await,
            number + more,
            "an idle connection was probed"
        );
    }

    fixture.sql("DELETE FROM blocked").await;
    let began = tokio::time::Instant::now();
    loop {
        let before = probes(&fixture).await;
        drop(acquire(&db).await);
        if probes(&fixture).await == before {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "probing never ended");
    }
    assert_eq!(
        (db.generation(), fixture.provider.calls().len()),
        (1, 1),
        "the role exists: no fetch"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_outlive_their_lease_are_not_probed() {
    let (fixture, db) = pooled(OldConnections::Drain).await;
    let number = terminate_a_statement(&fixture, &db, None, "").await;
    let connections = [acquire(&db).await, acquire(&db).await];
    drop(connections);
    drop(acquire(&db).await);
    assert!(probes(&fixture).await < number, "nothing was probed");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_runs_as_a_dropped_role_after_a_termination() {
    let (fixture, db) = pooled(OldConnections::EndWithLease).await;
    let grant = "GRANT SELECT ON private TO app";
    fixture
        .sql(&format!("CREATE TABLE private (n int); {grant}"))
        .await;
    let select = || async {
        timeout(PATIENCE, sqlx::query("SELECT * FROM private").execute(&db))
            .await
            .expect("within the timeout")
    };
    select().await.expect("permission granted");
    // Connections that the backend does not terminate.
    let (first, others) = (
        acquire(&db).await,
        [acquire(&db).await, acquire(&db).await, acquire(&db).await],
    );
    let next = fixture.provider.rotate();
    let dropped = format!(
        "REVOKE ALL ON DATABASE orders FROM app; REASSIGN OWNED BY app TO CURRENT_USER; DROP OWNED BY app; DROP ROLE app;
         CREATE ROLE app LOGIN PASSWORD '{next}'; {grant};"
    );
    let number = terminate_a_statement(&fixture, &db, Some(first), &dropped).await;
    until_probed(&fixture, number).await;
    assert_eq!(
        db.generation(),
        1,
        "the hazard: the pool's own probe has not failed yet"
    );
    drop(others);
    for _ in 0..2 * MAX {
        select()
            .await
            .expect("no connection of the dropped role was handed out");
    }
    fixture.sql("DELETE FROM blocked").await;
    assert_eq!(db.generation(), 2, "the next generation is current");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_right_after_a_termination_is_not_conclusive() {
    let (fixture, db) = pooled(OldConnections::EndWithLease).await;
    let number = terminate_a_statement(&fixture, &db, None, "").await;
    until_probed(&fixture, number).await;
    fixture.sql("DELETE FROM blocked").await;
    // The role still exists, because backends terminate its connections before they drop it.
    let active_statements =
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active'";
    while fixture.sql(active_statements).await.trim() != "0" {
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_millis(200)).await;
    let before = probes(&fixture).await;
    drop(acquire(&db).await);
    assert_eq!(
        probes(&fixture).await,
        before + 1,
        "connections are still probed"
    );
}
