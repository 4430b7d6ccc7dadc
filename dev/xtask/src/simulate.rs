//! `cargo xtask simulate`.

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

use crate::cargo;

/// Replaces this process with the simulator, in an optimised profile of its own.
pub(crate) fn run_simulation(arguments: &[OsString]) -> Result<ExitCode, Box<dyn Error>> {
    let words = [
        "run",
        "--quiet",
        "--profile",
        "simulation",
        "--package",
        "claviger-simulator",
        "--",
    ]
    .map(OsString::from);
    match cargo::become_cargo(words.iter().chain(arguments))? {}
}
