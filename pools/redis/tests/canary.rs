//! needs: redis
//!
//! Law 13: no password is shown at any level, also by a server that repeats it.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use claviger::lease::OldConnections;
use claviger::{Credentials, Lease, Revision, Supervisor};
use claviger_fixtures::LogRecorder;
use claviger_redis::RedisPools;
use claviger_redis::redis::AsyncCommands;
use claviger_testkit::ScriptedProvider;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use common::{Setup, USER, pools};

const CANARY: &str = "canary-s3cret";

/// Responds to each login as a server that does not support its command.
async fn serve_old_server(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut request = [0; 1_024];
            let read = stream.read(&mut request).await;
            let response = format!(
                "-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'app' \
                 '{CANARY}'\r\n-ERR unknown\r\n-ERR unknown\r\n"
            );
            let _ = stream.write_all(response.as_bytes()).await;
            read
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_13_no_password_is_shown() {
    let log = LogRecorder::everything();
    let setup = Setup::new(OldConnections::Reauthenticate, pools).await;
    let mut guard = setup.cache.get().await.expect("a connection");
    setup.change_password(CANARY);
    let lease = Lease::new(Credentials::new(USER, CANARY), Revision::new("2"));
    setup.provider.return_next(lease);
    setup.rotate_now().await;
    guard.set::<_, _, ()>("key", 1).await.expect("a command");
    setup.change_password("another");
    setup.server.kill_connections(USER).expect("a count");
    let failed = setup.cache.get().await;
    let mut shown = format!("{failed:?} {guard:?} {:?}", setup.cache.current());
    shown.push_str(&format!("{:?} {:?}", setup.cache, setup.cache.status()));

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let old_server = tokio::spawn(serve_old_server(listener));
    let provider = ScriptedProvider::new();
    let lease = || Lease::new(Credentials::new(USER, CANARY), Revision::new("1"));
    provider.return_next(lease());
    let builder = Supervisor::builder();
    let deadline = std::time::Duration::from_millis(500);
    let supervisor = builder.with_start_deadline(deadline).start();
    let supervisor = supervisor.expect("valid settings");
    let credentials = supervisor.add_provider("old", provider);
    let credentials = credentials.await.expect("a lease");
    let pools = RedisPools::new(format!("redis://127.0.0.1:{port}")).expect("an address");
    shown.push_str(&format!("{pools:?}"));
    let added = supervisor.add_pool("old", &credentials, pools).await;
    let error = added.map(drop).expect_err("an old server");
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = cause {
        shown.push_str(&format!("{error} {error:?}"));
        cause = error.source();
    }
    old_server.abort();
    assert!(shown.contains("HELLO"), "{shown}");
    assert!(!shown.contains(CANARY), "{shown}");
    log.assert_not_silenced();
    let lines = log.lines_containing(&[CANARY]);
    assert!(lines.is_empty(), "{lines:?}");
}
