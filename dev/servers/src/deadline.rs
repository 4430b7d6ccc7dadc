//! Deadlines for real processes.

use std::time::{Duration, Instant};

/// A point in time by which something has to happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    begin: Instant,
    timeout: Duration,
}

impl Deadline {
    pub(crate) fn after(timeout: Duration) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "servers are processes that run on the real clock"
        )]
        let begin = Instant::now();
        Self { begin, timeout }
    }

    pub(crate) fn has_passed(self) -> bool {
        self.begin.elapsed() >= self.timeout
    }
}
