//! Runs cargo in the current folder.

use std::convert::Infallible;
use std::env;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};

use crate::tally::{Reader, Tally};

/// Replaces this process with cargo, so that cargo gets the signals and its exit status is ours.
///
/// # Errors
/// Cargo could not be started. Otherwise it does not return.
pub(crate) fn become_cargo(
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> io::Result<Infallible> {
    Err(cargo().args(arguments).exec())
}

/// Runs cargo, prints its output as it comes, and sums its test results.
pub(crate) fn run_tests(
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> io::Result<(ExitStatus, Tally)> {
    let mut child = cargo().args(arguments).stdout(Stdio::piped()).spawn()?;
    let mut reader = Reader::default();
    if let Some(mut output) = child.stdout.take() {
        let mut stdout = io::stdout().lock();
        let mut piece = [0; 8192];
        loop {
            match output.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => {
                    reader.feed(&piece[..length]);
                    stdout.write_all(&piece[..length])?;
                    stdout.flush()?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok((child.wait()?, reader.finish()))
}

/// Returns the cargo that runs this program.
fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
