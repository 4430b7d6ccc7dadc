//! Diagram of the demo over time: calls per second, generations, failures.

use std::time::Duration;

/// Maximum number of columns.
const COLUMNS: usize = 60;
/// Maximum number of samples. When there are more, every second one is removed.
const SAMPLES: usize = COLUMNS * 8;
/// Width of the names.
const NAMES: usize = 14;
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Character that replaces the bar of a column in which a call failed.
const FAILED: char = 'x';

/// The state at one time. The numbers of calls are totals since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) step: u64,
    pub(crate) generation: u64,
    pub(crate) supervised: Calls,
    pub(crate) plain: Calls,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Calls {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
}

/// Samples at an even interval.
pub(crate) struct Timeline {
    samples: Vec<Sample>,
    interval: Duration,
    /// Number of samples of which one is kept.
    step: usize,
    skipped: usize,
}

impl Timeline {
    /// Creates a timeline of samples at this interval.
    pub(crate) fn new(interval: Duration, first: Sample) -> Self {
        Self {
            samples: vec![first],
            interval,
            step: 1,
            skipped: 0,
        }
    }

    pub(crate) fn add(&mut self, sample: Sample) {
        self.skipped += 1;
        if self.skipped < self.step {
            return;
        }
        self.skipped = 0;
        self.samples.push(sample);
        if self.samples.len() > SAMPLES {
            self.samples = self.samples.iter().step_by(2).copied().collect();
            self.step *= 2;
        }
    }

    /// Draws the timeline, at most 80 columns wide. `calls` is their name, such as `queries`.
    pub(crate) fn draw(&self, calls: &str) -> Vec<String> {
        let intervals = self.samples.len() - 1;
        let each = intervals.div_ceil(COLUMNS).max(1);
        let ends: Vec<_> = self.samples.iter().step_by(each).copied().collect();
        if ends.len() < 2 {
            return Vec::new();
        }
        let seconds = self.interval.as_secs_f64() * (self.step * each) as f64;
        let supervised = columns(ends.iter().map(|sample| sample.supervised));
        let highest = supervised.iter().map(|calls| calls.succeeded).max();
        let highest = highest.unwrap_or_default().max(1);
        let mut lines = vec![format!(
            "{calls} per second, one column for {seconds} s, █ for {:.0}, {FAILED} where a call failed:",
            highest as f64 / seconds
        )];
        let mut row = |name: &str, text: String| {
            lines.push(format!("  {name:<NAMES$}{text}").trim_end().to_owned());
        };
        if ends.iter().any(|sample| sample.step > 0) {
            row("step", numbers(ends.iter().map(|sample| sample.step)));
        }
        row(
            "generation",
            numbers(ends.iter().map(|sample| sample.generation)),
        );
        row("supervised", bars(&supervised, highest));
        let plain = columns(ends.iter().map(|sample| sample.plain));
        row("plain pool", bars(&plain, highest));
        lines
    }
}

/// Returns the differences between totals.
fn columns(totals: impl Iterator<Item = Calls>) -> Vec<Calls> {
    let totals: Vec<_> = totals.collect();
    let pairs = totals.windows(2);
    pairs
        .map(|pair| Calls {
            succeeded: pair[1].succeeded.saturating_sub(pair[0].succeeded),
            failed: pair[1].failed.saturating_sub(pair[0].failed),
        })
        .collect()
}

fn bars(columns: &[Calls], highest: u64) -> String {
    let bar = |calls: &Calls| {
        if calls.failed > 0 {
            return FAILED;
        }
        // Anything above zero is visible.
        let height = (calls.succeeded * 8).div_ceil(highest).min(8);
        BARS[usize::try_from(height).unwrap_or(8)]
    };
    columns.iter().map(bar).collect()
}

/// Writes each number at its first column, if there is room.
fn numbers(values: impl Iterator<Item = u64>) -> String {
    let mut text = String::new();
    let mut last = None;
    for (column, value) in values.skip(1).enumerate() {
        let length = text.chars().count();
        if last != Some(value) && length <= column {
            text.push_str(&" ".repeat(column - length));
            text.push_str(&value.to_string());
            text.push(' ');
            last = Some(value);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(step: u64, generation: u64, supervised: u64, plain: (u64, u64)) -> Sample {
        Sample {
            step,
            generation,
            supervised: Calls {
                succeeded: supervised,
                failed: 0,
            },
            plain: Calls {
                succeeded: plain.0,
                failed: plain.1,
            },
        }
    }

    #[test]
    fn failures_of_the_plain_pool_are_drawn_below_the_generations() {
        let mut timeline = Timeline::new(Duration::from_millis(250), sample(0, 1, 0, (0, 0)));
        for sample in [
            sample(0, 1, 400, (400, 0)),
            sample(0, 1, 600, (600, 0)),
            sample(1, 2, 800, (600, 7)),
            sample(1, 2, 800, (600, 9)),
            sample(2, 3, 1_200, (650, 9)),
        ] {
            timeline.add(sample);
        }
        assert_eq!(
            timeline.draw("queries"),
            [
                "queries per second, one column for 0.25 s, █ for 1600, x where a call failed:",
                "  step          0 1 2",
                "  generation    1 2 3",
                "  supervised    █▄▄ █",
                "  plain pool    █▄xx▁",
            ]
        );
    }

    #[test]
    fn a_day_has_eighty_columns_at_most() {
        let mut timeline = Timeline::new(Duration::from_millis(250), sample(0, 0, 0, (0, 0)));
        for number in 1..=345_600 {
            timeline.add(sample(
                number / 10,
                number / 20,
                number * 700,
                (number * 600, 0),
            ));
        }
        let drawn = timeline.draw("commands");
        assert_eq!(drawn.len(), 5, "{drawn:?}");
        for line in &drawn {
            assert!(line.chars().count() <= 80, "{line}");
        }
        let bars = drawn[3].chars().filter(|&column| column == '█').count();
        assert!(bars >= COLUMNS / 2, "{drawn:?}");
    }
}
