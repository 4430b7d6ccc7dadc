//! needs: postgresql
//!
//! Errors of every login after the start: readiness ends, and the status names the error.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use claviger::{Handle, PgPools};
use claviger_fixtures::{Fixture, eventually_within, query};
use sqlx::Executor;
use sqlx::postgres::{PgPoolOptions, PgSslMode};
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_connect_privilege_ends_readiness_after_the_first_failed_call() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(4).await;
    query(&db).await.expect("the query succeeds");
    fixture.sql("ALTER DATABASE orders OWNER TO postgres").await;
    fixture
        .sql("REVOKE CONNECT ON DATABASE orders FROM PUBLIC")
        .await;
    fixture.terminate_connections().await;
    let mut error = None;
    for _ in 0..100 {
        error = query(&db).await.err();
        if error
            .as_ref()
            .and_then(|error| error.as_database_error()?.code())
            .is_some_and(|code| code == "42501")
        {
            break;
        }
    }
    assert!(error.is_some(), "the hazard: a call fails with 42501");
    eventually_within(Duration::from_secs(15), "readiness ends", || {
        !fixture.supervisor.readiness().ready
    })
    .await;
    let connect_error = db
        .status()
        .expect("supervised")
        .last_error
        .expect("the database's error");
    assert_eq!(connect_error.code(), Some("42501"));
    assert!(
        connect_error
            .target()
            .is_some_and(|target| target.contains("\"app\"") && target.contains("\"orders\"")),
        "{connect_error}"
    );
}

/// Returns options whose hook fails while the flag is set.
fn with_failing_hook(options: PgPoolOptions, fails: &Arc<AtomicBool>) -> PgPoolOptions {
    let fails = Arc::clone(fails);
    options.after_connect(move |connection, _| {
        let fails = fails.load(Ordering::SeqCst);
        Box::pin(async move {
            if fails {
                connection.execute("SET ROLE missing_role").await.map(drop)
            } else {
                Ok(())
            }
        })
    })
}

fn names_the_hook(db: &Handle<PgPools>) -> bool {
    db.status()
        .and_then(|status| status.last_error)
        .is_some_and(|error| error.message().contains("after_connect"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_after_connect_hook_is_named_in_the_status() {
    let fixture = Fixture::new().await;
    let credentials = fixture.add_provider().await;
    let fails = Arc::new(AtomicBool::new(false));
    let mut pools = Vec::new();
    for max in [4, 10] {
        let options = with_failing_hook(fixture.pool_options(max), &fails);
        let name = format!("orders-{max}");
        let pool = fixture.add_pool(&name, &credentials, fixture.pools_with(options));
        pools.push(pool.await);
    }
    fails.store(true, Ordering::SeqCst);
    fixture.rotate_announced().await;
    for db in pools {
        eventually_within(Duration::from_secs(10), "the status names the hook", || {
            names_the_hook(&db)
        })
        .await;
        assert_eq!(db.generation(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_after_connect_hook_that_begins_to_fail_ends_readiness() {
    let fixture = Fixture::new().await;
    let credentials = fixture.add_provider().await;
    let fails = Arc::new(AtomicBool::new(false));
    let options = fixture
        .pool_options(4)
        .acquire_timeout(Duration::from_secs(1));
    let options = with_failing_hook(options, &fails);
    let db = fixture
        .add_pool("orders", &credentials, fixture.pools_with(options))
        .await;
    fails.store(true, Ordering::SeqCst);
    fixture.terminate_connections().await;
    let is_ready = || fixture.supervisor.readiness().ready;
    let unready = async {
        while is_ready() || !names_the_hook(&db) {
            let _ = query(&db).await;
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(40), unready)
        .await
        .expect("the hook ends readiness");
    // The bare login works all the time.
    sleep(Duration::from_secs(5)).await;
    assert!(!is_ready(), "it stays so");
    fails.store(false, Ordering::SeqCst);
    eventually_within(Duration::from_secs(30), "it is ready", is_ready).await;
    query(&db).await.expect("the query succeeds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_that_callers_get_names_the_user_and_the_server() {
    let fixture = Fixture::new().await;
    let db = fixture.pool(2).await;
    fixture.provider.roll_back_to(1);
    fixture.set_password("another password").await;
    fixture.terminate_connections().await;
    let is_named = || {
        let connect_error = db.status().and_then(|status| status.last_error);
        connect_error.is_some_and(|connect_error| {
            connect_error
                .target()
                .is_some_and(|target| target.contains("user \"app\" at 127.0.0.1"))
        })
    };
    let error = loop {
        match query(&db).await {
            Err(error) if claviger::sqlx_09::SharedError::connect_error(&error).is_some() => {
                break error;
            }
            _ => {}
        }
    };
    let connect_error = claviger::sqlx_09::SharedError::connect_error(&error).expect("shared");
    assert!(
        connect_error
            .target()
            .is_some_and(|target| target.contains("user \"app\" at 127.0.0.1")),
        "{connect_error}"
    );
    eventually_within(
        Duration::from_secs(5),
        "the status names the target",
        is_named,
    )
    .await;
}

/// Forwards to the server, or responds as an HTTP server does. Returns the port.
async fn balancer(server: (String, u16), misrouted: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (server, misrouted) = (server.clone(), Arc::clone(&misrouted));
            tokio::spawn(async move {
                if misrouted.load(Ordering::Acquire) {
                    let response = b"HTTP/1.1 400 Bad Request\r\n\r\n";
                    client.write_all(response).await.expect("it is sent");
                    // Until the client has read it and closes.
                    let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
                } else if let Ok(mut server) = TcpStream::connect(server).await {
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_protocol_ends_readiness() {
    let fixture = Fixture::new().await;
    let direct = fixture.connect_options();
    let misrouted = Arc::new(AtomicBool::new(false));
    let server = (direct.get_host().to_owned(), direct.get_port());
    let port = balancer(server, Arc::clone(&misrouted)).await;
    let options = direct
        .host("127.0.0.1")
        .port(port)
        .ssl_mode(PgSslMode::Prefer);
    let pool_options = fixture
        .pool_options(2)
        .acquire_timeout(Duration::from_secs(5));
    let db = fixture.pool_from(PgPools::new(options, pool_options)).await;
    query(&db).await.expect("the query succeeds");
    misrouted.store(true, Ordering::Release);
    fixture.terminate_connections().await;
    let mut error = query(&db).await.err();
    for _ in 0..5 {
        error = query(&db).await.err().or(error);
    }
    let error = error.expect("the hazard: a call fails");
    assert!(
        error.as_database_error().is_none(),
        "without a code: {error}"
    );
    eventually_within(Duration::from_secs(15), "readiness ends", || {
        !fixture.supervisor.readiness().ready
    })
    .await;
    assert!(db.status().expect("supervised").last_error.is_some());
}
