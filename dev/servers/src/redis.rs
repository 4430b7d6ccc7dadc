//! Starts and stops a Redis server.

mod builder;
mod client;
mod cluster;
mod connections;
mod faults;
pub(crate) mod program;

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::{StartError, io as step, with_causes};
use crate::guardian::{Guardian, SharedGuardian};
use crate::launch::Launch;
use crate::ports::HOST;
use crate::text_log::TextLog;
use crate::tls::Authorities;

pub use builder::RedisBuilder;
pub use cluster::RedisCluster;
pub use connections::Connection;

/// User of the methods, who connects by the Unix socket.
const ADMIN: &str = "claviger_admin";
const SOCKET: &str = "redis.sock";
const USERS: &str = "users.acl";

/// Timeout for a new cluster to serve its slots.
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(30);
const CLUSTER_PAUSE: Duration = Duration::from_millis(20);

/// A running [Redis](https://redis.io) on a free port of 127.0.0.1.
///
/// Clients authenticate as users of its access control list; the user `default` is off. The
/// methods use a Unix socket in a private folder. Dropping it stops the server and removes its
/// files. Every method takes `&self`.
///
/// ```
/// use claviger_servers::Redis;
///
/// fn a_test() -> Result<(), Box<dyn std::error::Error>> {
///     let server = Redis::start()?;
///     server.set_user("app", "first password")?;
///     let url = format!("redis://app@{}:{}", server.host(), server.port());
///     // … connect, then change the password under the open connections:
///     server.set_password("app", "second password")?;
///     assert_eq!(server.connections_of("app")?.len(), 0);
///     assert_eq!(server.rejected_logins_of("app")?, 0);
///     drop(url);
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Redis {
    guardian: SharedGuardian,
    program: PathBuf,
    folder: PathBuf,
    socket: PathBuf,
    port: u16,
    admin_password: String,
    /// Logins of the methods since the server was started.
    own_logins: AtomicU64,
    authorities: Option<Authorities>,
}

impl Redis {
    /// Starts a server without TLS and with the default settings, see [`RedisBuilder`].
    ///
    /// # Errors
    /// As [`RedisBuilder::start`].
    pub fn start() -> Result<Self, StartError> {
        Self::builder().start()
    }

    /// Returns a builder with the default settings.
    pub fn builder() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// Returns the address that it listens on: `127.0.0.1`.
    pub fn host(&self) -> &str {
        HOST
    }

    /// Returns the TCP port, which [`start_again`](Self::start_again) keeps. With TLS, connections
    /// without it are rejected there.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the server's process id, `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.guardian.lock().server()
    }

    /// Returns the PEM file of the authority that signed the server's certificate; `None` without
    /// TLS.
    pub fn ca_file(&self) -> Option<&Path> {
        Some(&self.authorities.as_ref()?.own)
    }

    /// Returns the PEM file of an authority that has nothing to do with this server: a client
    /// that trusts it must reject the server. `None` without TLS.
    pub fn unrelated_ca_file(&self) -> Option<&Path> {
        Some(&self.authorities.as_ref()?.unrelated)
    }

    /// Creates a user with this password and all rights, or replaces one. Open connections of the
    /// user continue.
    ///
    /// # Errors
    /// [`CommandError`], also for a name with a space.
    pub fn set_user(&self, user: &str, password: &str) -> Result<(), CommandError> {
        self.set_rules(
            user,
            &["reset", "on", &format!(">{password}"), "~*", "&*", "+@all"],
        )
    }

    /// Replaces all passwords of a user by this one. Open connections continue.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn set_password(&self, user: &str, password: &str) -> Result<(), CommandError> {
        self.set_rules(user, &["resetpass", &format!(">{password}")])
    }

    /// Applies [rules](https://redis.io/docs/latest/commands/acl-setuser/) to a user, as `off`,
    /// `>password` (one more), `-ping`. They outlive [`start_again`](Self::start_again).
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn set_rules(&self, user: &str, rules: &[&str]) -> Result<(), CommandError> {
        let command = [&["ACL", "SETUSER", user], rules].concat();
        self.command(&command)?;
        self.command(&["ACL", "SAVE"]).map(drop)
    }

    /// Deletes a user, which closes the user's connections.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn drop_user(&self, user: &str) -> Result<(), CommandError> {
        self.command(&["ACL", "DELUSER", user])?;
        self.command(&["ACL", "SAVE"]).map(drop)
    }

    /// Runs a command as the administrator; returns a line for each element of the response.
    ///
    /// # Errors
    /// [`CommandError::Failed`] with the server's message.
    pub fn command(&self, words: &[&str]) -> Result<String, CommandError> {
        Ok(self.reply(words)?.into_text())
    }

    /// Returns how many lines of the server's log contain this text.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log_count(&self, needle: &str) -> io::Result<usize> {
        self.log().count(needle)
    }

    /// Returns the last lines of the server's log, for a failed test's message.
    pub fn log_tail(&self, lines: usize) -> String {
        self.log().tail(lines)
    }

    fn reply(&self, words: &[&str]) -> Result<client::Reply, CommandError> {
        let reply = client::execute(&self.socket, ADMIN, &self.admin_password, words);
        if !matches!(reply, Err(CommandError::Io(_))) {
            self.own_logins.fetch_add(1, Ordering::Relaxed);
        }
        reply
    }

    fn log(&self) -> TextLog {
        TextLog::new(self.guardian.lock().server_log())
    }

    /// Waits until this node knows `nodes` nodes, which serve all slots.
    fn wait_for_cluster(&self, nodes: usize) -> Result<(), StartError> {
        let known = format!("cluster_known_nodes:{nodes}\r");
        let deadline = Deadline::after(CLUSTER_TIMEOUT);
        loop {
            let info = self.command(&["CLUSTER", "INFO"]);
            let info = info.map_err(|error| step("create the cluster")(io::Error::other(error)))?;
            let is_complete = info.contains("cluster_slots_ok:16384") && info.contains(&known);
            if is_complete && info.contains("cluster_state:ok") {
                return Ok(());
            }
            if deadline.has_passed() {
                return Err(StartError::NotReady {
                    after: CLUSTER_TIMEOUT,
                    log: info,
                });
            }
            thread::sleep(CLUSTER_PAUSE);
        }
    }
}

/// The reason that a command failed. Its `Debug` form is the message with its causes.
#[non_exhaustive]
pub enum CommandError {
    /// The server did not respond.
    Io(io::Error),
    /// The server rejected the command: the message.
    Failed(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(_) => f.write_str("the server did not respond"),
            Self::Failed(message) => write!(f, "the command failed: {message}"),
        }
    }
}

impl fmt::Debug for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_causes(self, f)
    }
}

impl Error for CommandError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Failed(_) => None,
        }
    }
}

impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Starts the server on this port and waits until it accepts connections.
fn launch(
    guardian: &mut Guardian,
    program: &Path,
    folder: &Path,
    port: u16,
) -> Result<(), StartError> {
    // Unpacked libraries are in the folder of the program.
    let mut libraries = std::ffi::OsString::from("LD_LIBRARY_PATH=");
    libraries.push(program.parent().unwrap_or(Path::new("/")));
    let command = [
        "/usr/bin/env".into(),
        libraries,
        program.into(),
        folder.join("redis.conf").into_os_string(),
    ];
    let is_ready = |_, log: &TextLog| log.contains("Ready to accept connections");
    Launch {
        command: &command,
        port,
        is_ready,
    }
    .run(guardian)
}
