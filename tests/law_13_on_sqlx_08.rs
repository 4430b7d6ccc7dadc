//! needs: postgresql
//!
//! Law 13: no secret in any Debug, Display, log, span, metric, panic or error, at any level. A
//! planted canary shows that the search works. With sqlx 0.8; a process has one
//! subscriber, hence a file of its own.

#[path = "laws/law_13.rs"]
mod on_postgresql;

use claviger::sqlx_08::PgPools as Pools;
use claviger_fixtures::sqlx_08::{self as fixtures, Fixture};
