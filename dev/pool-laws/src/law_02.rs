//! Law 2: a lease is published after it was verified. Until then the old generation stays in
//! service.

use claviger::error::ConnectError;
use claviger::lease::OldConnections;

use crate::callers::Callers;
use crate::fixture::{Fixture, eventually};
use crate::{PgKind, Settings};

pub async fn law_02_an_unverified_lease_serves_no_caller<K: PgKind>() {
    let fixture = Fixture::<K>::new(OldConnections::Drain, Settings::of(4)).await;
    let callers = Callers::start::<K>(&fixture.pool, 8);
    callers.wait_for_more(100).await;
    // The backend announces a password that the database does not accept yet.
    let next = fixture.provider.rotate();
    fixture.provider.hint();
    eventually(
        "the hazard: the announced password was rejected, twice",
        || fixture.failed_logins() >= 2,
    )
    .await;
    callers.wait_for_more(500).await;
    assert_eq!(fixture.pool.generation(), 1, "nothing was published");
    let status = fixture.pool.status().expect("supervised");
    assert!(status.serving && !status.rejected);
    let code = status.last_error.as_ref().and_then(ConnectError::code);
    assert_eq!(code, Some("28P01"));
    fixture.set_password(&next);
    eventually("the password was verified", || {
        fixture.pool.generation() == 2
    })
    .await;
    assert_eq!(callers.stop().await, Vec::<String>::new());
    let calls = fixture.provider.calls().len();
    assert_eq!(calls, 2, "only the start and the hint fetch");
}
