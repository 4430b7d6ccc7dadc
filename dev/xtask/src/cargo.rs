//! Running cargo, in the folder in which the user is.

use std::convert::Infallible;
use std::env;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};

use crate::tally::{Reader, Tally};

/// Becomes this cargo: its exit status is ours, a signal for us is one for it, and nothing
/// of ours is there to end before it has cleaned up.
///
/// # Errors
/// The only way to return: cargo could not be started.
pub(crate) fn become_cargo(
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> io::Result<Infallible> {
    Err(cargo().args(arguments).exec())
}

/// Runs this cargo, prints what it prints as it comes, and sums its test results.
pub(crate) fn run_tests(
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> io::Result<(ExitStatus, Tally)> {
    let mut child = cargo().args(arguments).stdout(Stdio::piped()).spawn()?;
    let mut reader = Reader::default();
    if let Some(mut output) = child.stdout.take() {
        let mut screen = io::stdout().lock();
        let mut piece = [0; 8192];
        loop {
            match output.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => {
                    reader.feed(&piece[..length]);
                    screen.write_all(&piece[..length])?;
                    screen.flush()?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok((child.wait()?, reader.finish()))
}

/// The cargo that runs us.
fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
