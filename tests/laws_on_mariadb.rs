//! needs: mariadb
//!
//! The laws that involve a database server, on MariaDB.

#[path = "laws/checks_after_idle.rs"]
mod checks_after_idle;
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
