//! needs: mariadb
//!
//! Many callers get one error of a MySQL or MariaDB server, which counts aborted connects.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use claviger::MySqlPools;
use claviger_fixtures::{
    Callers, FixtureOn, eventually, eventually_within, query, query_at_once, short_lived,
};
use claviger_servers::MariaDb;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

type Fixture = FixtureOn<MariaDb>;

async fn status(fixture: &Fixture, name: &str) -> u64 {
    let statement = format!(
        "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS \
         WHERE VARIABLE_NAME = '{name}'"
    );
    let value = fixture.sql(&statement).await;
    value.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_does_not_fill_the_pool_while_logins_are_slow() {
    let fixture = Fixture::new().await;
    let options = fixture.pool_options(20).after_connect(|_, _| {
        Box::pin(async {
            sleep(Duration::from_secs(1)).await;
            Ok(())
        })
    });
    let db = fixture.pool_with(options).await;
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        query(&db).await.expect("it succeeds");
    }
    let opened = db.current().size();
    assert!(opened <= 5, "{opened} connections for one caller");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_caller_at_a_time_tries_a_full_server() {
    let fixture = Fixture::new().await;
    let options = fixture
        .pool_options(10)
        .acquire_timeout(Duration::from_secs(3));
    let db = fixture.pool_with(options).await;
    fixture
        .sql("GRANT USAGE ON *.* TO app@'%' WITH MAX_USER_CONNECTIONS 1")
        .await;
    let other = fixture.plain_pool("password-1", fixture.pool_options(1));
    let busy = other.acquire().await.expect("the only connection");
    let before = status(&fixture, "ABORTED_CONNECTS").await;
    let mut full = 0;
    for outcome in query_at_once(&db, 1_000).await {
        let error = outcome.expect_err("the server is full");
        full += usize::from(
            error
                .as_database_error()
                .is_some_and(|error| error.message().contains("max_user_connections")),
        );
    }
    let attempts = status(&fixture, "ABORTED_CONNECTS").await - before;
    assert!(
        (2..=60).contains(&attempts),
        "{attempts} attempts in three seconds"
    );
    assert!(full > 900, "{full} of 1,000 errors name the limit");
    // Once connections are available again, callers are served.
    busy.close().await.expect("the connection closes");
    query(&db).await.expect("a connection is free");
    assert_eq!(fixture.provider.calls().len(), 1, "only the start fetches");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_aborts_no_login() {
    let fixture = Fixture::new().await;
    let options = short_lived(fixture.pool_options(8), Duration::from_millis(5));
    let db = fixture.pool_with(options).await;
    let callers = Callers::start(&db, 32);
    callers.wait_for_more(200).await;
    let (aborted, rejected) = (
        status(&fixture, "ABORTED_CONNECTS").await,
        fixture.rejected_logins(),
    );
    for _ in 0..5 {
        let before = db.generation();
        let next = fixture.provider.rotate();
        fixture.set_password(&next).await;
        eventually("the next generation is current", || {
            db.generation() > before
        })
        .await;
        callers.wait_for_more(200).await;
    }
    // Callers that time out during a login abort none either.
    for micros in (0..4_000).step_by(20) {
        drop(tokio::time::timeout(Duration::from_micros(micros), query(&db)).await);
    }
    drop(callers.stop().await);
    let rejected = u64::try_from(fixture.rejected_logins() - rejected).expect("a number");
    assert!(rejected >= 1, "the hazard: logins were rejected");
    eventually("the last login has ended", || {
        db.current().num_idle() as u32 == db.current().size()
    })
    .await;
    let aborted_logins = status(&fixture, "ABORTED_CONNECTS").await - aborted - rejected;
    assert_eq!(
        aborted_logins, 0,
        "aborted logins, besides {rejected} rejected ones"
    );
}

/// Forwards connections to a server. A client's reply to the server's greeting waits for a permit.
async fn serve_with(permits: Arc<Semaphore>, server: (String, u16)) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server)
                .await
                .expect("the server listens");
            tokio::spawn(forward(client, server, Arc::clone(&permits)));
        }
    });
    port
}

async fn forward(client: TcpStream, server: TcpStream, permits: Arc<Semaphore>) -> io::Result<()> {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
    let mut reply = vec![0; 4_096];
    let length = from_client.read(&mut reply).await?;
    tokio::select! {
        biased;
        // The client sends nothing more before the server's reply, unless it aborts.
        _ = from_client.read_u8() => return Ok(()),
        permit = permits.acquire() => permit.expect("never closed").forget(),
    }
    to_server.write_all(&reply[..length]).await?;
    copy(&mut from_client, &mut to_server).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_in_progress_continues_when_another_one_is_rejected() {
    let fixture = Fixture::new().await;
    // One permit for the verification, and one for the connection opened before publishing.
    let permits = Arc::new(Semaphore::new(2));
    let port = serve_with(
        Arc::clone(&permits),
        (fixture.server.host().to_owned(), fixture.server.port()),
    )
    .await;
    let options = fixture
        .pool_options(8)
        .acquire_timeout(Duration::from_secs(20));
    let pools = MySqlPools::new(fixture.connect_options().port(port), options);
    let db = fixture.pool_from(pools).await;
    let (aborted, rejected) = (
        status(&fixture, "ABORTED_CONNECTS").await,
        fixture.rejected_logins(),
    );
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let db = db.clone();
            tokio::spawn(async move { query(&db).await })
        })
        .collect();
    eventually("both callers log in", || db.current().size() == 2).await;
    fixture.set_password("another password").await;
    permits.add_permits(1);
    eventually("the other caller was moved", || {
        db.status()
            .is_some_and(|status| status.rejected && status.moved == 1)
    })
    .await;
    assert_eq!(db.current().size(), 1, "its login continues");
    fixture.set_password("password-1").await;
    permits.add_permits(1_000);
    eventually_within(
        Duration::from_secs(15),
        "the pool serves callers again",
        || db.status().is_some_and(|status| status.serving),
    )
    .await;
    for caller in callers {
        caller.await.expect("no panic").expect("the query succeeds");
    }
    let rejected = u64::try_from(fixture.rejected_logins() - rejected).expect("a number");
    assert!(rejected >= 1, "the hazard: a login was rejected");
    assert_eq!(
        status(&fixture, "ABORTED_CONNECTS").await - aborted,
        rejected,
        "the server counts only the rejected ones"
    );
}

/// Returns how many statements eight callers complete in three seconds.
async fn statements<P: Clone + Send + 'static, F>(
    pool: &P,
    call: impl Fn(P) -> F + Copy + Send + 'static,
) -> u32
where
    F: Future<Output = bool> + Send,
{
    let end = Instant::now() + Duration::from_secs(3);
    let callers = (0..8).map(|_| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut done = 0;
            while Instant::now() < end {
                done += u32::from(call(pool.clone()).await);
            }
            done
        })
    });
    futures_util::future::join_all(callers)
        .await
        .into_iter()
        .map(|done| done.expect("no panic"))
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_before_acquire_hook_lets_callers_run_concurrently() {
    let fixture = Fixture::new().await;
    let options = fixture.pool_options(4).before_acquire(|_, _| {
        Box::pin(async {
            sleep(Duration::from_millis(10)).await;
            Ok(true)
        })
    });
    let plain = fixture.plain_pool("password-1", options.clone());
    let db = fixture.pool_with(options).await;
    let theirs = statements(&plain, |pool| async move {
        sqlx::query("DO 1").execute(&pool).await.is_ok()
    })
    .await;
    let ours = statements(&db, |pool| async move {
        sqlx::query("DO 1").execute(&pool).await.is_ok()
    })
    .await;
    assert!(ours * 2 > theirs, "sqlx {theirs}, ours {ours}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_a_connection_limit_of_the_pool_s_maximum_is_rotated() {
    for hook in [false, true] {
        let fixture = Fixture::new().await;
        let mut options = fixture.pool_options(4);
        if hook {
            options = options.after_connect(|_, _| Box::pin(async { Ok(()) }));
        }
        let db = fixture.pool_with(options).await;
        fixture
            .sql("GRANT USAGE ON *.* TO app@'%' WITH MAX_USER_CONNECTIONS 4")
            .await;
        let connections = join_all((0..4).map(|_| db.acquire())).await;
        assert!(connections.iter().all(Result::is_ok), "{connections:?}");
        drop(connections);
        eventually("all connections are idle", || db.current().num_idle() == 4).await;
        fixture.rotate_announced().await;
        eventually_within(
            Duration::from_secs(5),
            "the next generation is current",
            || db.generation() == 2,
        )
        .await;
        query(&db).await.expect("the query succeeds");
    }
}
