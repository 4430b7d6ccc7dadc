//! Which connections a pool hands out, opens and closes.

use std::time::Duration;

use claviger::lease::OldConnections;
use futures_util::FutureExt;
use tokio::time::sleep;

use crate::fixture::{ConnectionOf, Fixture, ONE, eventually};
use crate::{PgKind, Settings};

/// Number of transactions that are cancelled.
const CANCELLED: u32 = 200;

pub(crate) async fn pid<K: PgKind>(connection: &mut ConnectionOf<K>) -> i64 {
    let pid = K::value(connection, "select pg_backend_pid()::bigint as value");
    pid.await.expect("a row")
}

pub async fn try_get_opens_no_connection<K: PgKind>() {
    let fixture = Fixture::<K>::new(OldConnections::Drain, Settings::of(4)).await;
    let pool = &fixture.pool;
    // Also without a login.
    let connects = || fixture.logged("connection received: host=127.0.0.1");
    let before = connects();
    for _ in 0..1_000 {
        assert!(pool.try_get().is_none());
    }
    let mut busy = pool.get().await.expect("a connection");
    for _ in 0..1_000 {
        assert!(pool.try_get().is_none(), "the only connection is in use");
    }
    let only = pid::<K>(&mut busy).await;
    drop(busy);
    let mut taken = pool.try_get().expect("an idle connection");
    assert_eq!(pid::<K>(&mut taken).await, only);
    assert_eq!(connects(), before + 1);
    assert_eq!(fixture.open_connections("app"), 1);
    let status = pool.status().expect("supervised");
    assert_eq!((status.connections, status.idle), (1, 0));
}

/// Test for pools that need no runtime.
pub fn try_get_works_outside_of_a_runtime<K: PgKind>() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let fixture = runtime.block_on(Fixture::<K>::new(OldConnections::Drain, Settings::of(4)));
    let pool = &fixture.pool;
    assert!(pool.try_get().is_none());
    drop(runtime.block_on(pool.get()).expect("a connection"));
    drop(pool.try_get().expect("an idle connection"));
    assert_eq!(fixture.open_connections("app"), 1);
}

pub async fn a_killed_connection_is_never_handed_out<K: PgKind>() {
    let fixture = Fixture::<K>::new(OldConnections::Drain, Settings::of(4)).await;
    for _ in 0..5 {
        drop(fixture.hold(4).await);
        fixture.terminate_connections();
        eventually("the server has closed them", || {
            fixture.open_connections("app") == 0
        })
        .await;
        let mut connection = fixture.pool.get().await.expect("a connection");
        let queried = K::value(&mut connection, ONE).await;
        queried.expect("an open connection");
    }
}

pub async fn a_full_server_gets_room_for_the_verification<K: PgKind>() {
    let fixture = Fixture::<K>::new(OldConnections::Drain, Settings::of(4)).await;
    drop(fixture.hold(4).await);
    fixture.sql("alter role app connection limit 4");
    fixture.rotate().await;
    let full = fixture.logged("too many connections");
    assert!(full > 0, "the hazard: the role was at its limit");
    drop(fixture.pool.get().await.expect("a connection"));
}

pub async fn a_cancelled_transaction_leaves_no_connection_inside_it<K: PgKind>() {
    let fixture = Fixture::<K>::new(OldConnections::Drain, Settings::of(2)).await;
    drop(fixture.hold(2).await);
    let mut cancelled = 0;
    for polls in (1..=8).cycle() {
        if cancelled == CANCELLED {
            break;
        }
        let mut connection = fixture.pool.get().await.expect("a connection");
        let mut call = Box::pin(async move {
            let committed = K::transaction(&mut connection, "select 1").await;
            committed.expect("it commits");
        });
        // Cancelled at another await point each time.
        let mut pending = true;
        for _ in 0..polls {
            pending = pending && call.as_mut().now_or_never().is_none();
            sleep(Duration::from_micros(200)).await;
        }
        cancelled += u32::from(pending);
    }
    let mut busy = fixture.hold(2).await;
    for connection in &mut busy {
        // Its response comes after that to a rollback which is under way.
        K::value(connection, ONE).await.expect("it works");
    }
    let open = "select count(*) from pg_stat_activity where usename = 'app' \
                and state like 'idle in transaction%'";
    assert_eq!(fixture.sql(open), "0");
}
