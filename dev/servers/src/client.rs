//! Runs statements with a database's own client program.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::thread;

use crate::error::with_causes;

/// Passes the statements to the client and returns its trimmed output.
pub(crate) fn run_sql(mut client: Command, sql: &str) -> Result<String, SqlError> {
    let mut client = client
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(SqlError::Client)?;
    let statements = client.stdin.take();
    let output = thread::scope(|scope| {
        // Not as an argument, where others could read a password. In a thread of its own, because
        // otherwise the client's output could fill its pipe meanwhile.
        scope.spawn(move || {
            // A client that stops at a failed statement reads no further, and reports that itself.
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

/// The reason that a statement failed. Its `Debug` form is the message with its causes.
#[non_exhaustive]
pub enum SqlError {
    /// The database's client program (`psql`, `mariadb`) could not be run.
    Client(io::Error),
    /// The server rejected the client or a statement: the message.
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
