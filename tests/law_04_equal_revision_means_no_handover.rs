//! needs: postgresql
//!
//! Law 4: an equal revision causes no handover and no event; a later expiry is adopted. An equal
//! but rejected revision is verified again with backoff.

#[path = "laws/law_04.rs"]
mod on_postgresql;

use claviger_fixtures::{self as fixtures, Fixture};
