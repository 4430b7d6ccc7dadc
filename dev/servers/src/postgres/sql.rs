//! Statements by the superuser, and those that tests need most.

use std::process::Command;

use super::{Postgres, SUPERUSER};
use crate::client::{SqlError, run_sql};
use crate::guardian::without_user_settings;
use crate::tokens::ROLE;

/// Timeout of the connection of `psql`, so that a stalled server does not hang the test.
const CONNECT_SECONDS: &str = "10";

impl Postgres {
    /// Runs statements as superuser in the database `postgres` and returns the trimmed result: one
    /// line for each row, columns separated by `|`. Each statement is its own transaction.
    ///
    /// # Errors
    /// [`SqlError::Failed`] with the server's message; later statements are not run.
    pub fn sql(&self, sql: &str) -> Result<String, SqlError> {
        self.sql_in(SUPERUSER, sql)
    }

    /// Like [`sql`](Self::sql), in another database.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn sql_in(&self, database: &str, sql: &str) -> Result<String, SqlError> {
        // psql uses C strings and would cut the statement short.
        if sql.contains('\0') || database.contains('\0') {
            return Err(SqlError::Failed("a zero byte in the statement".to_owned()));
        }
        let target = format!(
            "host={} port={} user={SUPERUSER} dbname={} connect_timeout={CONNECT_SECONDS}",
            conninfo_value(&self.socket_dir().to_string_lossy()),
            self.port(),
            conninfo_value(database),
        );
        let program = self.run.programs.join("psql");
        let mut command = Command::new(if program.exists() {
            program.as_os_str()
        } else {
            "psql".as_ref()
        });
        without_user_settings(&mut command);
        command
            .args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-d"])
            .arg(target)
            .env("PGCLIENTENCODING", "UTF8");
        run_sql(command, sql)
    }

    /// Creates a role that may log in with this password.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn create_role(&self, user: &str, password: &str) -> Result<(), SqlError> {
        self.sql(&format!(
            "CREATE ROLE {} LOGIN PASSWORD {}",
            quote_identifier(user),
            quote_literal(password)
        ))
        .map(drop)
    }

    /// Creates a role that can log in with IAM tokens only: a member of `rds_iam`, as on RDS.
    ///
    /// # Errors
    /// As [`sql`](Self::sql); always for a server without `PostgresBuilder::tokens`, which has no
    /// such role.
    pub fn create_token_role(&self, user: &str) -> Result<(), SqlError> {
        self.sql(&format!(
            "CREATE ROLE {} LOGIN IN ROLE {ROLE}",
            quote_identifier(user)
        ))
        .map(drop)
    }

    pub(super) fn create_token_group(&self) -> Result<(), SqlError> {
        self.sql(&format!("CREATE ROLE {ROLE}")).map(drop)
    }

    /// Changes a role's password. Open connections continue.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn set_password(&self, user: &str, password: &str) -> Result<(), SqlError> {
        self.sql(&format!(
            "ALTER ROLE {} PASSWORD {}",
            quote_identifier(user),
            quote_literal(password)
        ))
        .map(drop)
    }

    /// Creates a database owned by this role.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn create_database(&self, name: &str, owner: &str) -> Result<(), SqlError> {
        self.sql(&format!(
            "CREATE DATABASE {} OWNER {}",
            quote_identifier(name),
            quote_identifier(owner)
        ))
        .map(drop)
    }

    /// Terminates the open connections of a role (57P01), waits up to 5 s each until they are
    /// closed, and returns how many there were.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn terminate_connections(&self, user: &str) -> Result<usize, SqlError> {
        self.count(&format!(
            "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 5000)) {}",
            connections_of(user)
        ))
    }

    /// Returns how many connections of a role are open. A connection counts until the server
    /// notices that its client closed it. Connections of a dropped role are not counted.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn connection_count(&self, user: &str) -> Result<usize, SqlError> {
        self.count(&format!("SELECT count(*) {}", connections_of(user)))
    }

    fn count(&self, sql: &str) -> Result<usize, SqlError> {
        let result = self.sql(sql)?;
        result
            .parse()
            .map_err(|_| SqlError::Failed(format!("not a number: {result:?}")))
    }
}

fn connections_of(user: &str) -> String {
    format!(
        "FROM pg_stat_activity WHERE backend_type = 'client backend' \
         AND pid <> pg_backend_pid() AND usename = {}",
        quote_literal(user)
    )
}

/// Quotes a name with double quotes.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a text with single quotes, whether or not the server treats backslashes as escapes.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', r"\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// Quotes a value of a libpq connection string. Otherwise psql would read a database `a=b` as a
/// connection string.
fn conninfo_value(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}
