//! Runs cargo in the current folder.

use std::convert::Infallible;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};

use crate::tally::Tally;

/// Replaces this process with cargo, so that cargo gets the signals and its exit status is ours.
///
/// # Errors
/// Cargo could not be started. Otherwise it does not return.
pub(crate) fn become_cargo(
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> io::Result<Infallible> {
    Err(cargo().args(arguments).exec())
}

/// Runs cargo to its end.
pub(crate) fn run_to_end(arguments: &[String]) -> io::Result<ExitStatus> {
    cargo().args(arguments).status()
}

/// Runs cargo to its end and returns what the program has written.
///
/// # Errors
/// Cargo could not be started, or has failed.
pub(crate) fn output_of(arguments: &[&str]) -> io::Result<String> {
    let output = cargo().args(arguments).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        let words = arguments.join(" ");
        return Err(io::Error::other(format!(
            "cargo {words}: {}",
            output.status
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs tests and sums their results. Prints the output of a test program when it ends, because
/// others may run at the same time.
pub(crate) fn run_tests(
    arguments: &[String],
    pass_on: &[OsString],
) -> io::Result<(ExitStatus, Tally)> {
    let (output, input) = io::pipe()?;
    let mut command = cargo();
    command.args(arguments);
    if !pass_on.is_empty() {
        command.arg("--").args(pass_on);
    }
    let mut child = command.stdout(input.try_clone()?).stderr(input).spawn()?;
    // Its copies of the pipe's end would keep the pipe open.
    drop(command);
    let mut tally = Tally::default();
    let mut lines = BufReader::new(output);
    let mut program = Vec::new();
    loop {
        let start = program.len();
        let ended = lines.read_until(b'\n', &mut program)? == 0;
        let is_result = tally.add_line(&String::from_utf8_lossy(&program[start..]));
        if is_result || ended {
            io::stdout().write_all(&program)?;
            program.clear();
        }
        if ended {
            break;
        }
    }
    Ok((child.wait()?, tally))
}

/// Returns the cargo that runs this program.
fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
