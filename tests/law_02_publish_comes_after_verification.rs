//! needs: postgresql
//!
//! Law 2: while a lease cannot be verified, the old generation stays in use. The verification is
//! retried without a fetch, and at once when the old lease is rejected.

#[path = "laws/law_02.rs"]
mod on_postgresql;

use claviger_fixtures::{self as fixtures, Fixture};
