//! Simulation of many providers and pools with simulated databases, backends and clocks, from one
//! seed.
//!
//! Nothing here waits. A queue of events feeds the machines, and effects are carried out as by the
//! drivers, without tasks. The laws are checked at each step against the simulation's own state.
//! Equal seeds give equal traces. This module is not a stable API: `cargo xtask simulate` and the
//! tests use it.

mod backend;
mod callers;
mod checks;
mod clock;
mod database;
mod event;
mod models;
mod node;
mod operations;
mod pool;
mod provider;
mod report;
mod world;

pub use report::Outcome;

/// Runs one seed for this number of simulated days, or until a law is broken.
pub fn simulate(seed: u64, days: u64) -> Outcome {
    let mut world = world::World::new(seed);
    world.run(days * clock::DAY);
    Outcome::of(seed, days, world.checks)
}
