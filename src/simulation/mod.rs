//! A simulation of many providers and pools: their machines against simulated databases, backends
//! and clocks, all from one seed.
//!
//! Nothing here waits: a queue of events feeds the machines' inputs, and effects are carried out as
//! the drivers do, without tasks. The laws are checked at each step by what the world itself knows.
//! Equal seeds give equal traces. No promise is made about this module: `cargo xtask simulate` and
//! the tests use it.

mod backend;
mod callers;
mod checks;
mod clock;
mod database;
mod event;
mod pool;
mod provider;
mod report;
mod world;

pub use report::Outcome;

/// Runs one seed for so many simulated days, or until a law is broken.
pub fn simulate(seed: u64, days: u64) -> Outcome {
    let mut world = world::World::new(seed);
    world.run(days * clock::DAY);
    Outcome::of(seed, days, world.checks)
}
