//! needs: postgresql
//!
//! Law 14: shutdown is bounded, idempotent and ordered. A pool exists until it is removed or shut
//! down. Removing a provider in use names its pools.

#[path = "laws/law_14.rs"]
mod on_postgresql;

use claviger_fixtures::{self as fixtures, Fixture};
