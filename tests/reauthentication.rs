//! A lease whose connections authenticate again, on pools that cannot do so: they are replaced
//! before the lease expires.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::lease::OldConnections;
use claviger::report::HandoverMode;
use claviger_fixtures::{Scripted, until_drained};
use claviger_testkit::ScriptedProvider;

#[tokio::test]
async fn a_pool_that_cannot_authenticate_again_is_replaced() {
    for (old_connections, expected) in [
        (OldConnections::Keep, HandoverMode::InPlace),
        (OldConnections::Reauthenticate, HandoverMode::Replace),
        (OldConnections::EndWithLease, HandoverMode::Replace),
    ] {
        let provider = ScriptedProvider::new()
            .with_old_connections(old_connections)
            .with_lifetime(Duration::from_secs(900));
        let scripted = Scripted::with(provider).await;
        scripted.provider.rotate();
        let rotated = scripted.lab.supervisor.rotate_now("login").await;
        rotated.expect("a new lease");
        let status = scripted.pool.status().expect("a status");
        let mode = status.last_handover.expect("a handover").mode;
        assert_eq!(mode, expected, "{old_connections:?}");
        until_drained(&scripted.pool).await;
    }
}
