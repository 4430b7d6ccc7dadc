//! needs: postgresql
//!
//! Law 2: what cannot be proved leaves the old generation serving; the proof is retried without a fetch, and at once when the old one is refused.

#[path = "laws/law_02.rs"]
mod on_postgresql;

use claviger_stage::Stage;
