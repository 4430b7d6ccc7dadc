//! Statements by the superuser, and what tests do with them all the time.

use std::process::Command;

use super::{Postgres, SUPERUSER};
use crate::client::{SqlError, run};
use crate::guardian::without_user_settings;
use crate::tokens::ROLE;

/// How long `psql` waits for the server to let it in, so that a stalled server does not
/// hang the test.
const CONNECT_SECONDS: &str = "10";

impl Postgres {
    /// Runs statements as the superuser in the database `postgres` and returns what they
    /// return: a line for each row, columns separated by `|`, without surrounding white
    /// space. Each statement is a transaction of its own.
    ///
    /// # Errors
    /// [`SqlError::Failed`] with the server's message; the statements after the failing one
    /// are not run.
    pub fn sql(&self, sql: &str) -> Result<String, SqlError> {
        self.sql_in(SUPERUSER, sql)
    }

    /// Like [`sql`](Self::sql), in another database.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn sql_in(&self, database: &str, sql: &str) -> Result<String, SqlError> {
        // C strings all the way; psql would silently cut the statement short.
        if sql.contains('\0') || database.contains('\0') {
            return Err(SqlError::Failed("a zero byte in the statement".to_owned()));
        }
        let target = format!(
            "host={} port={} user={SUPERUSER} dbname={} connect_timeout={CONNECT_SECONDS}",
            conninfo_value(&self.socket_dir().to_string_lossy()),
            self.port(),
            conninfo_value(database),
        );
        let program = self.programs.join("psql");
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
        run(command, sql)
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

    /// Creates a role that may log in with IAM tokens, and with nothing else: a member of
    /// `rds_iam`, as on RDS.
    ///
    /// # Errors
    /// As [`sql`](Self::sql); always for a server without `Builder::tokens`, which has no
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

    /// Creates a database that belongs to this role.
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

    /// Ends the open sessions of a role (57P01 to their clients), waits until they are gone
    /// (up to 5 s each), and returns how many there were.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn terminate_connections(&self, user: &str) -> Result<usize, SqlError> {
        self.count(&format!(
            "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 5000)) {}",
            connections_of(user)
        ))
    }

    /// Returns how many sessions of a role are open. One that its client has just closed is
    /// counted until the server has noticed; those of a role that has been dropped since
    /// belong to nobody and are not found.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn connection_count(&self, user: &str) -> Result<usize, SqlError> {
        self.count(&format!("SELECT count(*) {}", connections_of(user)))
    }

    fn count(&self, sql: &str) -> Result<usize, SqlError> {
        let answer = self.sql(sql)?;
        answer
            .parse()
            .map_err(|_| SqlError::Failed(format!("not a number: {answer:?}")))
    }
}

fn connections_of(user: &str) -> String {
    format!(
        "FROM pg_stat_activity WHERE backend_type = 'client backend' \
         AND pid <> pg_backend_pid() AND usename = {}",
        quote_literal(user)
    )
}

/// A name between double quotes, whatever it contains.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text between single quotes, whatever it contains and whether or not the server takes
/// backslashes literally.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', r"\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// A value of a libpq connection string. Without it psql would take a database `a=b` for a
/// connection string of its own.
fn conninfo_value(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}
