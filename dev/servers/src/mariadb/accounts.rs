//! Users and their connections. Each user may come from any host: `'name'@'%'`.

use std::thread;
use std::time::Duration;

use super::{MariaDb, quote_identifier, quote_literal};
use crate::client::SqlError;
use crate::deadline::Deadline;
use crate::tokens::SERVICE;

/// How long connections that are ended may take until they are gone.
const TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

impl MariaDb {
    /// Creates a user who may log in with this password.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn create_role(&self, user: &str, password: &str) -> Result<(), SqlError> {
        self.sql(&format!(
            "CREATE USER {} IDENTIFIED BY {}",
            account(user),
            quote_literal(password)
        ))
        .map(drop)
    }

    /// Creates a user who may log in with IAM tokens over TLS, and with nothing else.
    ///
    /// # Errors
    /// As [`sql`](Self::sql); always for a server without `Builder::tokens`, which has no
    /// plugin for that.
    pub fn create_token_role(&self, user: &str) -> Result<(), SqlError> {
        self.sql(&format!(
            "CREATE USER {} IDENTIFIED VIA pam USING '{SERVICE}' REQUIRE SSL",
            account(user)
        ))
        .map(drop)
    }

    /// Changes a user's password. Open connections continue.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn set_password(&self, user: &str, password: &str) -> Result<(), SqlError> {
        self.sql(&format!(
            "ALTER USER {} IDENTIFIED BY {}",
            account(user),
            quote_literal(password)
        ))
        .map(drop)
    }

    /// Locks a user out: whoever logs in with the right password gets error 4151, and 1045
    /// with a wrong one. Open connections continue.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn lock_account(&self, user: &str) -> Result<(), SqlError> {
        self.sql(&format!("ALTER USER {} ACCOUNT LOCK", account(user)))
            .map(drop)
    }

    /// Lets a locked user in again.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn unlock_account(&self, user: &str) -> Result<(), SqlError> {
        self.sql(&format!("ALTER USER {} ACCOUNT UNLOCK", account(user)))
            .map(drop)
    }

    /// Lets a user's password expire: logins go on to succeed, and each statement gets
    /// error 1820, until [`set_password`](Self::set_password). Open connections continue.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn expire_password(&self, user: &str) -> Result<(), SqlError> {
        self.sql(&format!("ALTER USER {} PASSWORD EXPIRE", account(user)))
            .map(drop)
    }

    /// Creates a database in which this user may do everything.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn create_database(&self, name: &str, owner: &str) -> Result<(), SqlError> {
        let database = quote_identifier(name);
        // In a grant the name is a pattern.
        let pattern = quote_identifier(
            &name
                .replace('\\', r"\\")
                .replace('_', r"\_")
                .replace('%', r"\%"),
        );
        self.sql(&format!(
            "CREATE DATABASE {database}; GRANT ALL PRIVILEGES ON {pattern}.* TO {}",
            account(owner)
        ))
        .map(drop)
    }

    /// Ends the open connections of a user (their clients see the connection break), waits
    /// until they are gone (up to 5 s), and returns how many there were.
    ///
    /// # Errors
    /// As [`sql`](Self::sql), and when they are not gone in time.
    pub fn terminate_connections(&self, user: &str) -> Result<usize, SqlError> {
        let ended = self.count(&format!("KILL USER {}; SELECT ROW_COUNT()", account(user)))?;
        let deadline = Deadline::after(TIMEOUT);
        while self.count(&format!(
            "SELECT count(*) {} AND COMMAND = 'Killed'",
            connections_of(user)
        ))? > 0
        {
            if deadline.has_passed() {
                return Err(SqlError::Failed(format!(
                    "connections that were ended are there after {} s",
                    TIMEOUT.as_secs()
                )));
            }
            thread::sleep(PAUSE);
        }
        Ok(ended)
    }

    /// Returns how many connections of a user are open. One that its client has just closed is counted
    /// until the server has noticed; those of a user who has been dropped since are counted,
    /// too.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn connection_count(&self, user: &str) -> Result<usize, SqlError> {
        self.count(&format!("SELECT count(*) {}", connections_of(user)))
    }
}

fn account(user: &str) -> String {
    format!("{}@'%'", quote_literal(user))
}

fn connections_of(user: &str) -> String {
    format!(
        "FROM information_schema.PROCESSLIST WHERE USER = BINARY {}",
        quote_literal(user)
    )
}
