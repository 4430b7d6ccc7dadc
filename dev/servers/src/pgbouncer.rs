//! Starts and stops a PgBouncer.

mod builder;
pub(crate) mod program;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::account::{Account, change_owner};
use crate::client::{SqlError, run_sql};
use crate::error::StartError;
use crate::guardian::{Guardian, SharedGuardian, without_user_settings};
use crate::launch::{Launch, restart};
use crate::ports::HOST;
use crate::text_log::TextLog;

pub use builder::PgBouncerBuilder;

/// User of the admin console, without an account on the database.
const ADMIN: &str = "claviger_admin";
/// Password of that user. The console listens on loopback alone.
const ADMIN_PASSWORD: &str = "console";
/// User of `auth_query`, which reads the secrets of others from the database.
const READER: &str = "claviger_reader";
const USERS: &str = "users.txt";

/// Pool mode: when a connection to the server returns to the pooler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolMode {
    /// When its client disconnects.
    #[default]
    Session,
    /// At the end of each transaction. Prepared statements with a name do not work before PgBouncer
    /// 1.21.
    Transaction,
}

/// Place where the pooler reads the secrets of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Users {
    /// `auth_file`: a list of users with their passwords in clear text. [`PgBouncer::set_password`]
    /// changes one.
    File(Vec<(String, String)>),
    /// `auth_query`: the secrets are read from the server at each login of a client, by a superuser
    /// created for that.
    Query,
}

/// A running [PgBouncer](https://www.pgbouncer.org) in front of a [`Postgres`](crate::Postgres), on
/// a free port of 127.0.0.1.
///
/// It forwards every database. Clients authenticate with SCRAM-SHA-256. Failed logins to the server
/// are retried after 1 s, not after PgBouncer's 15 s. Dropping it stops the pooler and removes its
/// files; the server continues. Every method takes `&self`.
///
/// ```
/// use claviger_servers::{PgBouncer, Postgres};
/// use claviger_servers::pgbouncer::{PoolMode, Users};
///
/// fn a_test() -> Result<(), Box<dyn std::error::Error>> {
///     let server = Postgres::start()?;
///     server.create_role("app", "first password")?;
///     let pooler = PgBouncer::builder(Users::Query).mode(PoolMode::Transaction).start(&server)?;
///     let url = format!("postgres://app@{}:{}/postgres", pooler.host(), pooler.port());
///     drop(url);
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct PgBouncer {
    guardian: SharedGuardian,
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    account: Option<Account>,
    psql: PathBuf,
    users: Mutex<Vec<(String, String)>>,
}

impl PgBouncer {
    /// Returns a builder of a pooler with these users.
    pub fn builder(users: Users) -> PgBouncerBuilder {
        PgBouncerBuilder::new(users)
    }

    /// Returns the address that it listens on: `127.0.0.1`.
    pub fn host(&self) -> &str {
        HOST
    }

    /// Returns the TCP port, which [`start_again`](Self::start_again) keeps.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the pooler's process id, `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.guardian.lock().server()
    }

    /// Sets a user's password in the `auth_file`, adds the user if missing, and reloads the pooler.
    /// Open connections continue.
    ///
    /// # Errors
    /// The file cannot be written, or the console does not respond.
    pub fn set_password(&self, user: &str, password: &str) -> Result<(), SqlError> {
        {
            let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
            users.retain(|(known, _)| known != user);
            users.push((user.to_owned(), password.to_owned()));
            write_users(&self.folder, self.account, &users).map_err(SqlError::Client)?;
        }
        self.console("RELOAD").map(drop)
    }

    /// Runs a command of the [admin console](https://www.pgbouncer.org/usage.html#admin-console),
    /// as `SHOW SERVERS`; returns a line for each row, columns separated by `|`.
    ///
    /// # Errors
    /// [`SqlError::Failed`] with the console's message.
    pub fn console(&self, command: &str) -> Result<String, SqlError> {
        let target = format!(
            "host={HOST} port={} user={ADMIN} dbname=pgbouncer connect_timeout=10",
            self.port
        );
        let mut psql = Command::new(&self.psql);
        without_user_settings(&mut psql);
        psql.args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-d"])
            .arg(target)
            .env("PGPASSWORD", ADMIN_PASSWORD);
        run_sql(psql, &format!("{command};\n"))
    }

    /// Returns how many lines of the pooler's log contain this text.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log_count(&self, needle: &str) -> io::Result<usize> {
        self.log().count(needle)
    }

    /// Returns the last lines of the pooler's log, for a failed test's message.
    pub fn log_tail(&self, lines: usize) -> String {
        self.log().tail(lines)
    }

    /// Stops the pooler at once, which closes all connections through it. Does nothing if it is
    /// stopped already.
    ///
    /// # Errors
    /// The guardian process has ended.
    pub fn stop(&self) -> io::Result<()> {
        self.guardian.lock().stop_at_once()
    }

    /// Starts the pooler again on the same port. One that still runs is stopped first.
    ///
    /// # Errors
    /// As [`PgBouncerBuilder::start`]; [`StartError::PortTaken`] if another process listens on the
    /// port for 5 s.
    pub fn start_again(&self) -> Result<(), StartError> {
        restart(&self.guardian, |guardian| {
            launch(guardian, &self.program, &self.folder, self.port)
        })
    }

    fn log(&self) -> TextLog {
        TextLog::new(self.guardian.lock().server_log())
    }
}

/// Writes the `auth_file` as a whole or not at all: the pooler may be reading it.
fn write_users(
    folder: &Path,
    account: Option<Account>,
    users: &[(String, String)],
) -> io::Result<()> {
    let mut text = String::new();
    for (user, password) in users {
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {}", quoted(user), quoted(password));
    }
    let new = folder.join("users.new");
    fs::write(&new, text)?;
    change_owner(account, &new)?;
    fs::rename(new, folder.join(USERS))
}

/// Starts the pooler on this port and waits until it listens.
fn launch(
    guardian: &mut Guardian,
    program: &Path,
    folder: &Path,
    port: u16,
) -> Result<(), StartError> {
    // Libraries that were unpacked lie beside the program.
    let mut libraries = std::ffi::OsString::from("LD_LIBRARY_PATH=");
    libraries.push(program.parent().unwrap_or(Path::new("/")));
    let command = [
        "/usr/bin/env".into(),
        libraries,
        program.into(),
        folder.join("pgbouncer.ini").into_os_string(),
    ];
    let is_ready = |_, log: &TextLog| log.contains("process up: PgBouncer");
    Launch {
        command: &command,
        port,
        is_ready,
    }
    .run(guardian)
}
