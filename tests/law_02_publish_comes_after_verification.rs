//! needs: postgresql
//!
//! Law 2: what cannot be verified leaves the old generation serving; the verification is retried
//! without a fetch, and at once when the old one is rejected.

#[path = "laws/law_02.rs"]
mod on_postgresql;

use claviger_fixtures::Fixture;
