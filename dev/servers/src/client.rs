//! Running statements by a database's own client program.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::thread;

use crate::error::with_causes;

/// Gives the statements to the client and returns what it writes, without surrounding white
/// space.
pub(crate) fn run(mut client: Command, sql: &str) -> Result<String, SqlError> {
    let mut client = client
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(SqlError::Client)?;
    let statements = client.stdin.take();
    let output = thread::scope(|scope| {
        // Not as an argument, where everybody could read a password, and not before
        // reading the answers, which could fill their pipe meanwhile.
        scope.spawn(move || {
            // A client that stops at a failed statement reads no further; it says so itself.
            statements.map(|mut pipe| pipe.write_all(sql.as_bytes()))
        });
        client.wait_with_output()
    })
    .map_err(SqlError::Client)?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(SqlError::Failed(message.trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Why a statement did not run to its end. Its `Debug` form is the message with its causes.
#[non_exhaustive]
pub enum SqlError {
    /// The database's client program (`psql`, `mariadb`) could not be run.
    Client(io::Error),
    /// The server did not let the client in or rejected a statement: the message.
    Failed(String),
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(_) => f.write_str("failed to run the database's client program"),
            Self::Failed(message) => write!(f, "the statement failed: {message}"),
        }
    }
}

impl fmt::Debug for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_causes(self, f)
    }
}

impl Error for SqlError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Client(error) => Some(error),
            Self::Failed(_) => None,
        }
    }
}
