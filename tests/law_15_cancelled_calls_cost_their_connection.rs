//! needs: postgresql
//!
//! Law 15: a call that is cancelled at any await point costs at most its own connection.

#[path = "laws/law_15.rs"]
mod on_postgresql;

use claviger::PgPools as Pools;
use claviger_fixtures::{self as fixtures, Fixture};

/// Returns its parameter.
const ECHO: &str = "SELECT $1::bigint";
/// Counts the connections of the role that are idle in a transaction.
const IN_TRANSACTION: &str = "SELECT count(*) FROM pg_stat_activity \
     WHERE usename = current_user AND state LIKE 'idle in transaction%'";
