//! `simulator [--seed N | --seeds N] [--days D]`: runs seeds of the core's simulation on all cores.
//!
//! Prints how often each hazard occurred, and the end of the trace of each seed that broke a law.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program prints to its user"
)]

use std::collections::BTreeMap;
use std::env;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use claviger::simulation::{Outcome, simulate};
use parking_lot::Mutex;

const USAGE: &str = "usage: simulator [--seed N | --seeds N] [--days D]\n";

struct Options {
    first_seed: u64,
    seeds: u64,
    days: u64,
}

fn parse(arguments: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options {
        first_seed: 0,
        seeds: 200,
        days: 30,
    };
    let mut arguments = arguments;
    while let Some(name) = arguments.next() {
        let value = arguments.next()?.parse().ok()?;
        match name.as_str() {
            "--seed" => (options.first_seed, options.seeds) = (value, 1),
            "--seeds" => options.seeds = value,
            "--days" => options.days = value,
            _ => return None,
        }
    }
    let has_seeds = options.seeds > 0 && options.first_seed.checked_add(options.seeds).is_some();
    has_seeds.then_some(options)
}

fn main() -> ExitCode {
    let Some(options) = parse(env::args().skip(1)) else {
        eprint!("{USAGE}");
        return ExitCode::from(2);
    };
    let outcomes = simulate_seeds(&options);
    let mut hazards: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut lines, mut failed) = (0, 0);
    for outcome in &outcomes {
        lines += outcome.lines;
        for (name, times) in &outcome.hazards {
            *hazards.entry(name).or_default() += times;
        }
        if let Some(failure) = &outcome.failure {
            failed += 1;
            eprintln!("seed {}: {failure}", outcome.seed);
        }
    }
    for (name, times) in &hazards {
        println!("{times:>12}  {name}");
    }
    if let [outcome] = outcomes.as_slice() {
        println!("seed {}: trace {:016x}", outcome.seed, outcome.hash);
    }
    println!(
        "{} seeds of {} days, {lines} lines of trace, {failed} failed",
        outcomes.len(),
        options.days
    );
    // A law whose hazard never occurred was not tested.
    let hazard_missing = outcomes.len() >= 200 && hazards.values().any(|times| *times == 0);
    if hazard_missing {
        eprintln!("error: a hazard never occurred");
    }
    if failed > 0 || hazard_missing {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Runs the seeds on all cores. Returns their outcomes in the order of the seeds.
fn simulate_seeds(options: &Options) -> Vec<Outcome> {
    let (next, outcomes) = (AtomicU64::new(options.first_seed), Mutex::new(Vec::new()));
    let seeds_end = options.first_seed + options.seeds;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds_end {
                        break;
                    }
                    let outcome = simulate(seed, options.days);
                    let mut outcomes = outcomes.lock();
                    outcomes.push(outcome);
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner();
    outcomes.sort_by_key(|outcome| outcome.seed);
    outcomes
}
