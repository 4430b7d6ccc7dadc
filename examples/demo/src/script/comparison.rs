//! The calls of both pools, by the kind of step in which they were made.

use serde_json::json;

use crate::screen::{Screen, count_fields};
use crate::service::Counters;
use crate::timeline::Calls;

/// Width of the first column.
const FIRST: usize = 36;
/// Width of each other column.
const OTHERS: usize = 10;

/// A row of the table.
#[derive(Clone, Debug, Default)]
struct Row {
    name: &'static str,
    steps: u32,
    supervised: Calls,
    plain: Calls,
}

/// The table, and the totals at the start of the current step.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    rows: Vec<Row>,
    current: usize,
    before: Calls,
    plain_before: Calls,
}

impl Comparison {
    /// Ends the current step, and starts one of this kind.
    pub(super) fn begin(&mut self, name: &'static str, supervised: &Counters, plain: &Counters) {
        self.end(supervised, plain);
        let known = self.rows.iter().position(|row| row.name == name);
        self.current = known.unwrap_or_else(|| {
            self.rows.push(Row {
                name,
                ..Row::default()
            });
            self.rows.len() - 1
        });
        self.rows[self.current].steps += 1;
    }

    /// Ends the current step. Calls before the first step are not counted.
    pub(super) fn end(&mut self, supervised: &Counters, plain: &Counters) {
        let supervised = calls_since(&mut self.before, supervised);
        let plain = calls_since(&mut self.plain_before, plain);
        if let Some(row) = self.rows.get_mut(self.current) {
            add(&mut row.supervised, supervised);
            add(&mut row.plain, plain);
        }
    }

    /// Writes the rows as JSON, if that was requested.
    pub(super) fn write_to(&self, screen: &Screen) {
        for row in &self.rows {
            screen.data(
                "compared",
                &json!({
                    "step": row.name,
                    "steps": row.steps,
                    "supervised": count_fields(row.supervised),
                    "plain": count_fields(row.plain),
                }),
            );
        }
    }

    /// Returns the lines of the table.
    pub(super) fn table(&self, calls: &str) -> Vec<String> {
        let mut lines = vec![
            format!("{:FIRST$}{:>20}{:>20}", "", "supervised", "plain pool"),
            line(
                "step",
                [calls, "failed", calls, "failed"].map(str::to_owned),
            ),
        ];
        lines.extend(self.rows.iter().map(|row| {
            line(
                &format!("{} × {}", row.steps, row.name),
                [
                    row.supervised.succeeded,
                    row.supervised.failed,
                    row.plain.succeeded,
                    row.plain.failed,
                ]
                .map(|count| count.to_string()),
            )
        }));
        lines
    }
}

fn line(name: &str, columns: [String; 4]) -> String {
    let columns: String = columns
        .iter()
        .map(|text| format!("{text:>OTHERS$}"))
        .collect();
    format!("{name:<FIRST$}{columns}")
}

/// Returns the calls since the last time.
fn calls_since(before: &mut Calls, counters: &Counters) -> Calls {
    let now = Calls {
        succeeded: counters.succeeded(),
        failed: counters.failed(),
    };
    let since = Calls {
        succeeded: now.succeeded - before.succeeded,
        failed: now.failed - before.failed,
    };
    *before = now;
    since
}

fn add(sum: &mut Calls, calls: Calls) {
    sum.succeeded += calls.succeeded;
    sum.failed += calls.failed;
}
