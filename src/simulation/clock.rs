//! Virtual time.

use std::time::{Duration, SystemTime};

use crate::clock::Timestamp;

pub(super) const MS: u64 = 1_000;
pub(super) const SEC: u64 = 1_000 * MS;
pub(super) const MIN: u64 = 60 * SEC;
pub(super) const HOUR: u64 = 60 * MIN;
pub(super) const DAY: u64 = 24 * HOUR;

/// The clocks, in microseconds since the start.
///
/// The monotonic clock stops while the host is suspended. True time, which databases and backends
/// use, continues. The wall clock can be set.
#[derive(Debug)]
pub(super) struct Clocks {
    pub(super) mono: u64,
    slept: u64,
    wall_offset: i64,
    base: Timestamp,
}

/// Faults of the clocks so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClockFaults {
    slept: u64,
    wall_offset: i64,
}

impl Clocks {
    pub(super) fn new() -> Self {
        // No result depends on it, because the machines use differences only.
        let mono = tokio::time::Instant::now().into_std();
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Self {
            mono: 0,
            slept: 0,
            wall_offset: 0,
            base: Timestamp::at(wall, mono),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        let wall = self.base.wall() + Duration::from_micros(self.true_time());
        let offset = Duration::from_micros(self.wall_offset.unsigned_abs());
        let wall = if self.wall_offset < 0 {
            wall - offset
        } else {
            wall + offset
        };
        Timestamp::at(wall, self.base.mono() + Duration::from_micros(self.mono))
    }

    pub(super) fn true_time(&self) -> u64 {
        self.mono + self.slept
    }

    pub(super) fn sleep(&mut self, micros: u64) {
        self.slept += micros;
    }

    pub(super) fn set_wall(&mut self, by: i64) {
        self.wall_offset += by;
    }

    pub(super) fn faults(&self) -> ClockFaults {
        ClockFaults {
            slept: self.slept,
            wall_offset: self.wall_offset,
        }
    }

    /// Returns by how much an expiry that was read at `since` is late by both clocks. Since then
    /// the host has slept, and its wall clock was set back.
    pub(super) fn undetected(&self, since: ClockFaults) -> u64 {
        let slept = self.slept - since.slept;
        let set_back = u64::try_from(since.wall_offset - self.wall_offset).unwrap_or(0);
        slept.min(set_back)
    }

    /// Returns this instant in microseconds of the monotonic clock, rounded up.
    pub(super) fn micros(&self, at: std::time::Instant) -> u64 {
        let since = at.saturating_duration_since(self.base.mono());
        u64::try_from(since.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX)
    }
}
