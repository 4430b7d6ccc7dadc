//! needs: mariadb, openbao, quiet
//!
//! Dynamic users on MariaDB, where open connections of a dropped user keep working.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::{Handle, MySqlPools};
use claviger_fixtures::eventually_within;
use claviger_servers::{InjectedFault, MariaDb};
use claviger_vault::{Auth, SecretId, VaultDynamic, VaultSession};
use claviger_vault_fixtures::{
    Identity, MOUNT, ORDERS, ROLE, Revocation, VaultFixture, assert_only_expired_leases_failed,
    next_generation, start_callers,
};

const SECOND: Duration = Duration::from_secs(1);

async fn service(ttl: u64, max_ttl: u64) -> (VaultFixture<MariaDb>, Handle<MySqlPools>) {
    let fixture = VaultFixture::new(ttl, max_ttl, Revocation::Default).await;
    let Identity { role_id, secret_id } = fixture.identity().await;
    let auth = Auth::app_role(role_id, SecretId::given(secret_id));
    let session =
        VaultSession::new(fixture.proxy.endpoint(), auth).expect("the settings are valid");
    let db = fixture
        .pool(VaultDynamic::new(&session, MOUNT, ROLE).expect("a role"))
        .await;
    (fixture, db)
}

#[tokio::test(flavor = "multi_thread")]
async fn users_rotate_under_load_and_none_is_left() {
    let (fixture, db) = service(10, 24).await;
    let callers = start_callers(&db);
    // Once by the lease's maximum, then manually.
    let mut generation = next_generation(&db, 1).await;
    for _ in 0..4 {
        generation = fixture.rotate(&db, generation).await;
        callers.wait_for_more(50).await;
    }
    fixture.wait_for_one_lease().await;
    callers.stop_without_failure().await;
    assert_eq!(db.generation(), 6);
    fixture.shutdown_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_an_expired_lease_is_never_handed_out() {
    let (fixture, db) = service(10, 60).await;
    let user: String = sqlx::query_scalar("SELECT CURRENT_USER()")
        .fetch_one(&db)
        .await
        .expect("it succeeds");
    // One connection in use, and idle ones.
    let mut old_connection = db.current().acquire().await.expect("a connection");
    let callers = start_callers(&db);
    callers.wait_for_more(50).await;
    // The service cannot renew. The server drops the user when the lease expires.
    fixture.proxy.fault(InjectedFault::Refuse);
    let users = || {
        let server = &fixture.server;
        server
            .sql("SELECT count(*) FROM mysql.user WHERE User LIKE 'v-%'")
            .expect("it is counted")
            .trim()
            .to_owned()
    };
    eventually_within(30 * SECOND, "the user is dropped", || users() == "0").await;
    let succeeded_before = callers.succeeded();
    let old_user: String = sqlx::query_scalar("SELECT CURRENT_USER()")
        .fetch_one(&mut *old_connection)
        .await
        .expect("it succeeds");
    assert_eq!(
        old_user, user,
        "the hazard: a connection of a dropped user still works"
    );
    drop(old_connection);
    let error = sqlx::query(ORDERS)
        .execute(&db)
        .await
        .expect_err("nothing is published");
    assert!(error.to_string().contains("expired at"), "{error}");
    eventually_within(10 * SECOND, "callers get an error", || {
        callers.failures() > 8
    })
    .await;
    assert_eq!(
        callers.succeeded(),
        succeeded_before,
        "no call succeeds with a dropped user"
    );

    fixture.proxy.heal();
    next_generation(&db, 1).await;
    callers.wait_for_more(50).await;
    let tally = callers.stop().await;
    assert_only_expired_leases_failed(&tally);
    fixture.wait_for_one_lease().await;
    fixture.shutdown_and_check().await;
}
