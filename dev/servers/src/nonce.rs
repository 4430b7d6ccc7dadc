//! Names that nobody else comes up with.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Sixteen hexadecimal digits that no other process or call comes up with.
pub(crate) fn nonce() -> String {
    format!("{:016x}", random())
}

/// std seeds each `RandomState` of a process from the system's random numbers.
pub(crate) fn random() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}
