//! `cargo xtask …`: the commands of this workspace for contributors.
//!
//! It has few dependencies, so that it builds fast. Commands build what they need with `cargo`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line program prints to its user"
)]

mod bench;
mod cargo;
mod cli;
mod demo;
mod figures;
mod manifest;
mod need;
mod plan;
mod provide;
#[cfg(test)]
mod published;
mod simulate;
mod tally;
mod test;
mod test_file;
mod workspace;

use std::env;
use std::error::Error;
use std::process::ExitCode;

use cli::Command;

/// Exit status of an invalid command line, or of a missing server.
const CANNOT_START: u8 = 2;

fn main() -> ExitCode {
    let command = match cli::parse(env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprint!("error: {error}\n\n{}", cli::USAGE);
            return ExitCode::from(CANNOT_START);
        }
    };
    run_command(command).unwrap_or_else(|error| {
        eprintln!("error: {}", with_sources(&*error));
        ExitCode::FAILURE
    })
}

fn run_command(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Help => {
            print!("{}", cli::USAGE);
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo(arguments) => demo::run_demo(&arguments),
        Command::Test(options) => test::run_tests(&options),
        Command::Simulate(arguments) => simulate::run_simulation(&arguments),
        Command::Bench(arguments) => bench::run_benchmark(&arguments),
        Command::Figures(arguments) => figures::draw_figures(&arguments),
        Command::Install(servers) => Ok(provide::install_servers(&servers)),
    }
}

/// Formats an error and its sources on one line.
fn with_sources(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        line.push_str(": ");
        line.push_str(&source.to_string());
        next = source.source();
    }
    line
}
