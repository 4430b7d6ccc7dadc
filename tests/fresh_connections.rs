//! needs: postgresql
//!
//! New connections that are already broken: a pooler or load balancer accepts clients although its
//! server is down.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use claviger::lease::OldConnections;
use claviger::{Credentials, Handle, Lease, PgPools, Revision};
use claviger_fixtures::{Fixture, eventually};
use futures_util::future::join_all;
use sqlx::postgres::PgSslMode;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// Bound on logins within [`WATCHED`]: those of the caller and of the verifications in the
/// background.
const FEW: usize = 10;
const WATCHED: Duration = Duration::from_secs(5);

/// How a pooler ends a client's connection when its server is down: with this SQLSTATE and text, or
/// by closing it.
#[derive(Clone, Copy, Debug)]
enum Ending {
    WithError(&'static str, &'static str),
    Silently,
}

impl Ending {
    fn message(self) -> Vec<u8> {
        let Self::WithError(code, text) = self else {
            return Vec::new();
        };
        let mut fields = Vec::new();
        for (field, value) in [('S', "FATAL"), ('V', "FATAL"), ('C', code), ('M', text)] {
            fields.push(u8::try_from(field).expect("ASCII"));
            fields.extend_from_slice(value.as_bytes());
            fields.push(0);
        }
        fields.push(0);
        let length = u32::try_from(fields.len() + 4).expect("short");
        [&b"E"[..], &length.to_be_bytes(), &fields].concat()
    }
}

/// A pooler that accepts clients as the server does. When the server is shut down, the pooler ends
/// open connections, and from then on each connection at its first statement. Newer versions of
/// PgBouncer do the same; Debian's version ends them at the login.
struct Pooler {
    port: u16,
    down: watch::Sender<Option<Ending>>,
    logins: Arc<AtomicUsize>,
}

impl Pooler {
    async fn start(server: (String, u16)) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let port = listener.local_addr().expect("the port is bound").port();
        let (down, logins) = (watch::Sender::new(None), Arc::new(AtomicUsize::new(0)));
        tokio::spawn({
            let (down, logins) = (down.clone(), Arc::clone(&logins));
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let (down, logins, server) =
                        (down.subscribe(), Arc::clone(&logins), server.clone());
                    tokio::spawn(async move { serve(client, server, down, &logins).await });
                }
            }
        });
        Self { port, down, logins }
    }

    fn logins(&self) -> usize {
        self.logins.load(Ordering::SeqCst)
    }
}

/// Serves one client. Returns `None` when either side has ended.
async fn serve(
    mut client: TcpStream,
    server: (String, u16),
    mut down: watch::Receiver<Option<Ending>>,
    logins: &AtomicUsize,
) -> Option<()> {
    let mut server = TcpStream::connect(server).await.ok()?;
    // The login, up to the server's first ReadyForQuery.
    let mut buffer = [0; 4_096];
    loop {
        tokio::select! {
            read = client.read(&mut buffer) => {
                let length = read.ok().filter(|length| *length > 0)?;
                server.write_all(&buffer[..length]).await.ok()?;
            }
            kind = server.read_u8() => {
                let kind = kind.ok()?;
                let length = server.read_u32().await.ok()?;
                let mut body = vec![0; usize::try_from(length).ok()?.checked_sub(4)?];
                server.read_exact(&mut body).await.ok()?;
                client.write_all(&[&[kind][..], &length.to_be_bytes(), &body].concat()).await.ok()?;
                if kind == b'Z' {
                    break;
                }
            }
        }
    }
    logins.fetch_add(1, Ordering::SeqCst);
    let is_fresh = down.borrow_and_update().is_some();
    if is_fresh {
        // The client's first statement.
        client
            .read(&mut buffer)
            .await
            .ok()
            .filter(|length| *length > 0)?;
    } else {
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => return None,
            changed = down.changed() => changed.ok()?,
        }
    }
    let ending = (*down.borrow())?;
    client.write_all(&ending.message()).await.ok()
}

async fn query(db: &Handle<PgPools>) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT 1").execute(db).await.map(drop)
}

/// Makes one call while the server is down, with `open` connections that were open before. Returns
/// the call's error. With a lease that ends its connections, a call before it has failed already,
/// so that connections are probed.
async fn one_call(ending: Ending, open: u32, old_connections: OldConnections) -> sqlx::Error {
    let fixture = Fixture::new().await;
    fixture.provider.return_next(
        Lease::new(
            Credentials::new("app", "password-1"),
            Revision::new("revision-1"),
        )
        .with_old_connections(old_connections),
    );
    let direct = fixture.connect_options();
    let pooler = Pooler::start((direct.get_host().to_owned(), direct.get_port())).await;
    let connect = direct
        .host("127.0.0.1")
        .port(pooler.port)
        .ssl_mode(PgSslMode::Disable);
    let options = fixture.pool_options(4).acquire_timeout(WATCHED);
    let db = fixture.pool_from(PgPools::new(connect, options)).await;
    let mut connections = Vec::new();
    for _ in 0..open {
        connections.push(db.acquire().await.expect("the pooler accepts the login"));
    }
    if connections.is_empty() {
        db.acquire()
            .await
            .expect("the pooler accepts the login")
            .close()
            .await
            .expect("the connection closes");
    }
    drop(connections);
    // All connections are idle when the pooler ends them.
    eventually("all connections are idle", || {
        (db.current().size(), db.current().num_idle()) == (open, open as usize)
    })
    .await;

    pooler.down.send_replace(Some(ending));
    if old_connections == OldConnections::EndWithLease {
        query(&db).await.expect_err("the server is down");
    }
    let (before, began) = (pooler.logins(), Instant::now());
    let error = timeout(WATCHED + Duration::from_secs(2), query(&db))
        .await
        .expect("within the timeout")
        .expect_err("the server is down");
    sleep_until(began + WATCHED).await;
    let made = pooler.logins() - before;
    assert!(
        made <= FEW,
        "{ending:?}: {made} logins in {WATCHED:?}, and then {error}"
    );
    assert!(
        made > 0 || open > 0,
        "the hazard: a new connection was broken"
    );
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pooler_s_error_is_returned_after_a_few_logins() {
    let texts = [
        (
            "08P01",
            "server login has been failing, cached error: connect failed (server_login_retry)",
        ),
        (
            "08P01",
            "the backend has gone away, and no version has this text",
        ),
        ("57P03", "the database system is starting up"),
    ];
    let calls = texts.into_iter().flat_map(|(code, text)| {
        [0, 3].map(|open| async move {
            let error = one_call(Ending::WithError(code, text), open, OldConnections::Drain).await;
            assert!(error.to_string().contains(text), "{error:?} lacks {text:?}");
        })
    });
    join_all(calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_closed_by_the_pooler_is_an_io_error_after_a_few_logins() {
    for error in
        join_all([0, 3].map(|open| one_call(Ending::Silently, open, OldConnections::Drain))).await
    {
        assert!(matches!(error, sqlx::Error::Io(_)), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ends_its_connections_costs_few_logins_too() {
    let text = "the backend has gone away";
    let endings = [Ending::WithError("08P01", text), Ending::Silently];
    let calls = endings
        .into_iter()
        .flat_map(|ending| [0, 3].map(|open| one_call(ending, open, OldConnections::EndWithLease)));
    for error in join_all(calls).await {
        assert!(
            matches!(error, sqlx::Error::Io(_)) || error.to_string().contains(text),
            "{error:?}"
        );
    }
}
