//! Results of a run: its trace, hazards, and the law that it broke.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};

use super::node::{NodeId, PROVIDERS};

/// Number of a law of ARCHITECTURE.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Law(pub(super) u8);

/// Lines of the trace that are printed with a broken law.
const SHOWN: usize = 40;
const KEPT: usize = 1_000;

#[derive(Clone, Copy, Debug)]
struct Line {
    at: u64,
    what: &'static str,
    node: NodeId,
    a: u64,
    b: u64,
}

/// Hash of all events, and the last ones as text.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) now: u64,
    pub(super) hash: u64,
    pub(super) lines: u64,
    last: VecDeque<Line>,
}

impl Trace {
    pub(super) fn line(&mut self, what: &'static str, node: NodeId, a: u64, b: u64) {
        let mut hash = self.hash;
        for word in [
            self.now,
            what.len() as u64,
            node.index as u64,
            u64::from(node.incarnation),
            a,
            b,
        ] {
            hash = (hash ^ word)
                .wrapping_mul(0x0000_0100_0000_01b3)
                .rotate_left(23);
        }
        for byte in what.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.hash = hash;
        self.lines += 1;
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        let at = self.now;
        self.last.push_back(Line {
            at,
            what,
            node,
            a,
            b,
        });
    }
}

impl Trace {
    /// Returns the last lines about a node, its provider and that provider's other pools.
    fn around(&self, node: NodeId) -> Vec<Line> {
        let lines = self.last.iter().rev();
        let lines = lines.filter(|line| line.node.index % PROVIDERS == node.index % PROVIDERS);
        let mut lines: Vec<_> = lines.take(SHOWN).copied().collect();
        lines.reverse();
        lines
    }
}

/// Virtual time as days and a time of day.
pub(super) struct Time(pub(super) u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        write!(
            f,
            "day {days} {:02}:{:02}:{:02}.{micros:06}",
            rest / 3_600,
            rest / 60 % 60,
            rest % 60
        )
    }
}

/// A law that was broken.
#[derive(Debug)]
pub(super) struct Breach {
    law: Law,
    at: u64,
    text: String,
    lines: Vec<Line>,
}

#[derive(Debug, Default)]
pub(super) struct CheckResults {
    pub(super) trace: Trace,
    pub(super) hazards: BTreeMap<&'static str, u64>,
    pub(super) breach: Option<Breach>,
}

impl CheckResults {
    /// Counts a hazard: a condition in which a law could be broken. `times` may be 0, so that the
    /// summary shows it.
    pub(super) fn hazard(&mut self, name: &'static str, times: u64) {
        *self.hazards.entry(name).or_default() += times;
    }

    pub(super) fn broken(&mut self, law: Law, node: NodeId, text: impl Into<String>) {
        if self.breach.is_none() {
            self.breach = Some(Breach {
                law,
                at: self.trace.now,
                text: format!("node {}.{}: {}", node.index, node.incarnation, text.into()),
                lines: self.trace.around(node),
            });
        }
    }
}

/// Outcome of a seed's run.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Hash of the trace: equal for equal seeds and days.
    pub hash: u64,
    /// Number of lines of the trace.
    pub lines: u64,
    /// Number of occurrences of each hazard.
    pub hazards: BTreeMap<&'static str, u64>,
    /// The law that was broken, when, and the last lines of the trace.
    pub failure: Option<String>,
}

impl Outcome {
    pub(super) fn of(seed: u64, days: u64, checks: CheckResults) -> Self {
        let failure = checks.breach.map(|breach| {
            let mut text = format!(
                "law {} broken at {}: {}\n  repeat with: cargo xtask simulate --seed {seed} --days \
                 {days}\n",
                breach.law.0,
                Time(breach.at),
                breach.text
            );
            for line in breach.lines {
                let Line {
                    at,
                    what,
                    node,
                    a,
                    b,
                } = line;
                let NodeId { index, incarnation } = node;
                let _ = writeln!(
                    text,
                    "  {} {what} node={index}.{incarnation} {a} {b}",
                    Time(at)
                );
            }
            text
        });
        Self {
            seed,
            hash: checks.trace.hash,
            lines: checks.trace.lines,
            hazards: checks.hazards,
            failure,
        }
    }
}
