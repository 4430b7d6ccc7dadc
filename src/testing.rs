//! For `claviger-testkit` alone: a clock that tests move, and crashes at a named step. No promise
//! is made about it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::clock::{Clock, wall_now};

/// A wall clock that follows the monotonic one (tokio's, so also a paused one) and jumps when told
/// to.
#[derive(Clone, Debug)]
pub struct MovedClock {
    base: (SystemTime, Instant),
    jumped: Arc<Mutex<i128>>,
}

impl Default for MovedClock {
    fn default() -> Self {
        Self {
            base: (wall_now(), tokio::time::Instant::now().into_std()),
            jumped: Arc::default(),
        }
    }
}

impl MovedClock {
    /// The wall clock goes forward by this much at once, as after a suspend.
    pub fn jump(&self, by: Duration) {
        *self.jumped.lock().unwrap_or_else(PoisonError::into_inner) += by.as_nanos() as i128;
    }

    /// Returns the clock that this one moves, for a request or hints of a provider's own test.
    pub fn clock(&self) -> Clock {
        Clock::moved(self.clone())
    }

    pub(crate) fn wall(&self, mono: Instant) -> SystemTime {
        let jumped = *self.jumped.lock().unwrap_or_else(PoisonError::into_inner);
        let shift = Duration::from_nanos(u64::try_from(jumped).unwrap_or(0));
        self.base.0 + mono.saturating_duration_since(self.base.1) + shift
    }
}

/// Panics an actor (or a task that reports to it) when it comes to a named step.
#[derive(Clone, Debug, Default)]
pub struct Failpoints(Arc<Mutex<HashMap<(String, String), u32>>>);

impl Failpoints {
    /// The next `times` passes of `actor` at `step` panic.
    pub fn set(&self, actor: &str, step: &str, times: u32) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((actor.into(), step.into()), times);
    }

    /// How many panics are still to come there.
    pub fn left(&self, actor: &str, step: &str) -> u32 {
        let traps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        traps
            .get(&(actor.into(), step.into()))
            .copied()
            .unwrap_or(0)
    }

    #[expect(clippy::panic, reason = "its purpose")]
    pub(crate) fn spring(&self, actor: &str, step: &str) {
        let sprung = {
            let mut traps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match traps.get_mut(&(actor.into(), step.into())) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    true
                }
                _ => false,
            }
        };
        if sprung {
            panic!("trap at {actor}/{step}");
        }
    }
}
