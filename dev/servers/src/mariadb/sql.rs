//! Statements by the superuser.

use std::process::Command;

use super::config::SOCKET;
use super::{MariaDb, SUPERUSER};
use crate::client::{SqlError, run_sql};
use crate::guardian::without_user_settings;

/// Timeout of the client's connection, so that a stalled server does not hang the test.
const CONNECT_SECONDS: u32 = 10;

impl MariaDb {
    /// Runs statements as superuser in the database `mysql` and returns the trimmed result: one
    /// line for each row, columns separated by tabs. Each statement is its own transaction.
    ///
    /// # Errors
    /// [`SqlError::Failed`] with the server's message; later statements are not run.
    pub fn sql(&self, sql: &str) -> Result<String, SqlError> {
        self.sql_in("mysql", sql)
    }

    /// Like [`sql`](Self::sql), in another database.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn sql_in(&self, database: &str, sql: &str) -> Result<String, SqlError> {
        if sql.contains('\0') || database.contains('\0') {
            return Err(SqlError::Failed("a zero byte in the statement".to_owned()));
        }
        let mut command = Command::new(&self.installation.client);
        without_user_settings(&mut command);
        command
            .args([
                "--no-defaults",
                "--batch",
                "--raw",
                "--skip-column-names",
                "--binary-mode",
            ])
            .args(["--default-character-set=utf8mb4", "--user", SUPERUSER])
            .arg(format!("--connect-timeout={CONNECT_SECONDS}"))
            .arg("--socket")
            .arg(self.socket_dir().join(SOCKET))
            .arg(format!("--database={database}"));
        run_sql(command, sql).map_err(|error| match error {
            // The client repeats the statement, which may contain a secret, before its message.
            SqlError::Failed(text) => SqlError::Failed(
                text.find("ERROR ")
                    .map_or(text.as_str(), |message| &text[message..])
                    .to_owned(),
            ),
            error => error,
        })
    }

    /// Runs a statement that returns a number.
    pub(super) fn count(&self, sql: &str) -> Result<usize, SqlError> {
        let result = self.sql(sql)?;
        result
            .parse()
            .map_err(|_| SqlError::Failed(format!("not a number: {result:?}")))
    }
}

/// Quotes a name with backticks.
pub fn quote_identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Quotes a text with single quotes, for a connection in which a backslash escapes, as it does by
/// default.
pub fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}
