//! Panics at a named step, only for tests.

#[cfg(feature = "testing")]
use std::collections::HashMap;
#[cfg(feature = "testing")]
use std::sync::Arc;

#[cfg(feature = "testing")]
use crate::lock::Mutex;

/// Panics an actor (or a task that reports to it) when it reaches a named step.
#[cfg(feature = "testing")]
#[derive(Clone, Debug, Default)]
pub struct Failpoints(Arc<Mutex<HashMap<(String, String), u32>>>);

#[cfg(feature = "testing")]
impl Failpoints {
    /// Makes the next `times` runs of `actor` through `step` panic.
    pub fn set(&self, actor: &str, step: &str, times: u32) {
        self.0.lock().insert((actor.into(), step.into()), times);
    }

    /// Returns how many panics are left at this step.
    pub fn left(&self, actor: &str, step: &str) -> u32 {
        let failpoints = self.0.lock();
        failpoints
            .get(&(actor.into(), step.into()))
            .copied()
            .unwrap_or(0)
    }

    #[expect(clippy::panic, reason = "its purpose")]
    pub(crate) fn panic_if_set(&self, actor: &str, step: &str) {
        let is_due = {
            let mut failpoints = self.0.lock();
            match failpoints.get_mut(&(actor.into(), step.into())) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    true
                }
                _ => false,
            }
        };
        if is_due {
            panic!("failpoint at {actor}/{step}");
        }
    }
}

/// Does nothing outside of tests.
#[cfg(not(feature = "testing"))]
#[derive(Clone, Debug, Default)]
pub(crate) struct Failpoints;

#[cfg(not(feature = "testing"))]
impl Failpoints {
    #[inline]
    pub(crate) fn panic_if_set(&self, _actor: &str, _step: &str) {}
}
