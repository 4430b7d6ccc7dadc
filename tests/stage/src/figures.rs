//! A figure, its goal, and how they are printed: the ones that fall short first.

use std::fmt;
use std::time::Duration;

/// What was measured so far.
#[derive(Default)]
pub struct Figures(Vec<Figure>);

struct Figure {
    name: String,
    measured: f64,
    goal: String,
    met: bool,
}

impl Figures {
    /// To be at most `goal`.
    pub fn at_most(&mut self, name: &str, measured: f64, goal: f64) {
        self.add(name, measured, format!("≤ {goal}"), measured <= goal);
    }

    /// To be at least `goal`.
    pub fn at_least(&mut self, name: &str, measured: f64, goal: f64) {
        self.add(name, measured, format!("≥ {goal}"), measured >= goal);
    }

    /// For comparison.
    pub fn beside(&mut self, name: &str, measured: f64) {
        self.add(name, measured, String::new(), true);
    }

    #[expect(clippy::print_stdout, reason = "a bench shows each figure as soon as it has it")]
    fn add(&mut self, name: &str, measured: f64, goal: String, met: bool) {
        println!("{name}: {measured:.3} {goal}");
        self.0.push(Figure { name: name.to_owned(), measured, goal, met });
    }
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figures").field("figures", &self.0.len()).finish()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<78} {:>12} {:>10}", "figure", "measured", "goal")?;
        for met in [false, true] {
            for figure in self.0.iter().filter(|figure| figure.met == met) {
                let word = if met { "" } else { "  falls short" };
                writeln!(f, "{:<78} {:>12.3} {:>10}{word}", figure.name, figure.measured, figure.goal)?;
            }
        }
        Ok(())
    }
}

/// The value below which the share of all lies.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = ((values.len() as f64 - 1.0) * share).round() as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

/// The value in the middle.
pub fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

/// In milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
