//! Ids of supervisors, providers, pools and rotations.

use std::sync::atomic::{AtomicU64, Ordering};

/// Identifies one of these in this process. A name may be reused, an id never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(u64);

impl Id {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}
