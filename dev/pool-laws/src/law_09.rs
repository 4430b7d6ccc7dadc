//! Law 9: a lease is released when the last generation that uses it has drained.

use std::time::Duration;

use claviger::lease::{Expiry, OldConnections, Timestamp};
use claviger::{Credentials, Lease, Revision};
use claviger_testkit::ScriptedProvider;

use crate::callers::Callers;
use crate::fixture::{Fixture, ONE, eventually};
use crate::{PgKind, Settings};

/// Returns a lease of a user of its own, whose backend ends its connections, as Vault does.
fn lease(user: &str) -> Lease<Credentials> {
    Lease::new(Credentials::new(user, "s3cret"), Revision::new(user))
        .with_expiry(Expiry::after(Timestamp::now(), Duration::from_secs(3_600)))
        .with_old_connections(OldConnections::EndWithLease)
}

pub async fn law_09_a_lease_is_released_after_its_last_connection<K: PgKind>() {
    let provider = ScriptedProvider::new();
    let fixture = Fixture::<K>::with(provider, Settings::of(4)).await;
    for user in ["user_1", "user_2"] {
        tokio::task::block_in_place(|| {
            let created = fixture.server.create_role(user, "s3cret");
            created.expect("a role");
        });
    }
    fixture.provider.return_next(lease("user_1"));
    fixture.provider.hint();
    eventually("the first user is in use", || {
        fixture.pool.generation() == 2
    })
    .await;
    let mut taken = fixture.hold(3).await;
    let mut busy = taken.pop().expect("one of three");
    drop(taken);
    let callers = Callers::start::<K>(&fixture.pool, 4);
    callers.wait_for_more(50).await;
    fixture.provider.return_next(lease("user_2"));
    fixture.provider.hint();
    eventually("the second user is in use", || {
        fixture.pool.generation() == 3
    })
    .await;
    eventually("connections that are not in use have closed", || {
        fixture.open_connections("user_1") == 1
    })
    .await;
    callers.wait_for_more(200).await;
    let released = || fixture.provider.released();
    let first = Revision::new("user_1");
    assert!(!released().contains(&first), "a connection is open");
    let status = fixture.pool.status().expect("supervised");
    let draining: Vec<_> = status.draining.iter().map(|old| old.connections).collect();
    assert_eq!(draining, [1], "the hazard: a connection is in use");
    K::value(&mut busy, ONE).await.expect("it stays open");
    drop(busy);
    eventually("the lease is released", || released().contains(&first)).await;
    eventually("none of its connections is open", || {
        fixture.open_connections("user_1") == 0
    })
    .await;
    assert_eq!(callers.stop().await, Vec::<String>::new());
    assert!(fixture.open_connections("user_2") > 0);
}
