//! Users and their connections. Each user may connect from any host: `'name'@'%'`.

use std::thread;
use std::time::Duration;

use super::{MariaDb, quote_identifier, quote_literal};
use crate::client::SqlError;
use crate::deadline::Deadline;
use crate::tokens::SERVICE;

/// Timeout until terminated connections are closed.
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
    /// As [`sql`](Self::sql); always for a server without `MariaDbBuilder::tokens`, which has no
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

    /// Locks a user. Logins with the right password fail with error 4151, with a wrong one 1045.
    /// Open connections continue.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn lock_account(&self, user: &str) -> Result<(), SqlError> {
        self.sql(&format!("ALTER USER {} ACCOUNT LOCK", account(user)))
            .map(drop)
    }

    /// Unlocks a user.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn unlock_account(&self, user: &str) -> Result<(), SqlError> {
        self.sql(&format!("ALTER USER {} ACCOUNT UNLOCK", account(user)))
            .map(drop)
    }

    /// Expires a user's password. Logins still succeed, and each statement fails with error 1820
    /// until [`set_password`](Self::set_password). Open connections continue.
    ///
    /// # Errors
    /// As [`sql`](Self::sql).
    pub fn expire_password(&self, user: &str) -> Result<(), SqlError> {
        self.sql(&format!("ALTER USER {} PASSWORD EXPIRE", account(user)))
            .map(drop)
    }

    /// Creates a database on which this user has all privileges.
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

    /// Terminates the open connections of a user, waits up to 5 s until they are closed, and
    /// returns how many there were.
    ///
    /// # Errors
    /// As [`sql`](Self::sql), and connections that are still open after that time.
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
                    "terminated connections are still open after {} s",
                    TIMEOUT.as_secs()
                )));
            }
            thread::sleep(PAUSE);
        }
        Ok(ended)
    }

    /// Returns how many connections of a user are open. A connection counts until the server
    /// notices that its client closed it, and also if the user was dropped.
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
