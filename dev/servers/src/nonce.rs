//! Unique names.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Returns sixteen random hexadecimal digits.
pub(crate) fn nonce() -> String {
    format!("{:016x}", random())
}

/// Returns a random number: std seeds each process's `RandomState` from the system.
pub(crate) fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}
