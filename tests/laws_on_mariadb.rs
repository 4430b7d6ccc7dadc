//! needs: mariadb
//!
//! The laws that involve a database server, on MariaDB.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "laws/checks_after_idle.rs"]
mod checks_after_idle;
#[path = "laws/checks_in_pool.rs"]
mod checks_in_pool;
#[path = "laws/law_01.rs"]
mod law_01;
#[path = "laws/law_02.rs"]
mod law_02;
#[path = "laws/law_05.rs"]
mod law_05;
#[path = "laws/law_09.rs"]
mod law_09;
#[path = "laws/law_10.rs"]
mod law_10;
#[path = "laws/law_11.rs"]
mod law_11;
#[path = "laws/law_15.rs"]
mod law_15;
#[path = "laws/shared_rejections.rs"]
mod shared_rejections;

use claviger::{Handle, MySqlPools as Pools};
use claviger_fixtures as fixtures;
use claviger_servers::MariaDb;

type Fixture = claviger_fixtures::FixtureOn<MariaDb>;

/// Returns its parameter.
const ECHO: &str = "SELECT CAST(? AS SIGNED)";
/// Whether this connection is in a transaction.
const IN_TRANSACTION: &str = "SELECT CAST(@@in_transaction AS SIGNED)";

type DriverError = sqlx::mysql::MySqlDatabaseError;

/// Returns whether the driver's error is a rejection with all its details.
fn is_complete_rejection(error: &DriverError) -> bool {
    (error.number(), error.code()) == (1045, Some("28000"))
}

/// Returns how many pings by the statement `DO 0` the server has executed.
async fn pings(fixture: &Fixture) -> u64 {
    let status = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS \
         WHERE VARIABLE_NAME = 'COM_DO'";
    fixture.sql(status).await.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn with_checks_in_the_pool_each_connection_is_pinged_once() {
    let fixture = Fixture::new().await;
    let db = fixture
        .pool_from(fixture.pools(1).with_checks_in_pool())
        .await;
    drop(db.acquire().await.expect("a connection"));
    for through_handle in [true, false] {
        let before = pings(&fixture).await;
        for _ in 0..10 {
            let connection = if through_handle {
                db.acquire().await
            } else {
                db.current().acquire().await
            };
            drop(connection.expect("a connection"));
        }
        assert_eq!(
            pings(&fixture).await - before,
            10,
            "through the handle: {through_handle}"
        );
    }
}
