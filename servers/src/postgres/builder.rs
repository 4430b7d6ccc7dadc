//! How a server is to be, and the way from there to a running one.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use super::error::{StartError, io};
use super::launch::{free_port, launch};
use super::{Authorities, Log, Postgres, SUPERUSER, config};
use crate::account::Account;
use crate::guardian::{Guardian, Signal};
use crate::programs::{Programs, Server};

/// How often another port is tried when somebody takes the chosen one before the server
/// does.
const PORTS_TO_TRY: u32 = 10;

/// A PostgreSQL server to be started.
///
/// By default it listens on 127.0.0.1, asks for passwords with SCRAM-SHA-256, has room for
/// 200 connections, writes a line to its log for each log-in and log-out, and does not
/// wait for the disk.
#[derive(Debug, Default)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    programs: Option<Programs>,
    settings: Vec<(String, String)>,
    access: Vec<String>,
    #[cfg(feature = "tls")]
    tls: bool,
}

impl Builder {
    /// Lets the server speak TLS, with a certificate for `localhost` and `127.0.0.1` by
    /// an authority that is made for this server, see [`Postgres::ca_file`]. Clients may
    /// still connect without TLS.
    #[cfg(feature = "tls")]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// A line of `postgresql.conf`: the name is taken as it is, the value is quoted. It wins
    /// over the default and over an earlier call; only the port cannot be set.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// A line of `pg_hba.conf`, as `hostssl all app 127.0.0.1/32 cert`. The lines stand in
    /// the order of the calls behind the one that lets the superuser in over the socket,
    /// and before the defaults: they win over these.
    pub fn hba(mut self, line: impl Into<String>) -> Self {
        self.access.push(line.into());
        self
    }

    /// Where to look for the server's programs, in place of
    /// [`Programs::from_environment`].
    pub fn programs(mut self, programs: Programs) -> Self {
        self.programs = Some(programs);
        self
    }

    /// Creates the data folder, starts the server and waits until it takes connections:
    /// about a second, nearly all of it `initdb`.
    ///
    /// # Errors
    /// [`StartError::NotInstalled`] when there is no PostgreSQL on this machine. A server
    /// that does not come up within 30 s, or ends at once, is an error with the end of its
    /// log. Whatever fails, nothing is left behind.
    pub fn start(self) -> Result<Postgres, StartError> {
        let programs = match &self.programs {
            Some(programs) => programs.find(Server::PostgreSql),
            None => Programs::from_environment().find(Server::PostgreSql),
        }?;
        let account = Account::to_drop_to().map_err(io("choose a user for the server"))?;
        let mut guardian = Guardian::start(account, Signal::Quit).map_err(io("start the server's guardian process"))?;
        let folder = guardian.folder().to_owned();
        let data = folder.join("data");

        init(&mut guardian, &programs, &data)?;
        let authorities = self.authorities(&folder, account)?;
        let settings = config::settings(&folder, authorities.is_some(), &self.settings);
        append(&data.join("postgresql.conf"), &settings).map_err(io("write the server's settings"))?;
        let access = config::access(&self.access, authorities.is_some());
        fs::write(data.join("pg_hba.conf"), access).map_err(io("write the server's settings"))?;

        let mut tries = PORTS_TO_TRY;
        let port = loop {
            let port = free_port()?;
            match launch(&mut guardian, &programs, port) {
                Ok(()) => break port,
                Err(StartError::PortTaken { .. }) if tries > 1 => tries -= 1,
                Err(error) => return Err(error),
            }
        };
        Ok(Postgres { log: Log::of(guardian.server_log()), guardian: Mutex::new(guardian), programs, folder, port, authorities })
    }

    #[cfg(feature = "tls")]
    fn authorities(&self, folder: &Path, account: Option<Account>) -> Result<Option<Authorities>, StartError> {
        if !self.tls {
            return Ok(None);
        }
        super::tls::write(folder, account).map(Some)
    }

    #[cfg(not(feature = "tls"))]
    fn authorities(&self, _folder: &Path, _account: Option<Account>) -> Result<Option<Authorities>, StartError> {
        Ok(None)
    }
}

/// Creates the data folder. The guardian does it, so that a test that is killed meanwhile
/// leaves nothing of it.
fn init(guardian: &mut Guardian, programs: &Path, data: &Path) -> Result<(), StartError> {
    guardian
        .run(
            &programs.join("initdb"),
            &[
                OsStr::new("--pgdata"),
                data.as_os_str(),
                OsStr::new("--username"),
                OsStr::new(SUPERUSER),
                OsStr::new("--no-sync"),
                // Replaced by our own pg_hba.conf before the server runs.
                OsStr::new("--auth=trust"),
                // The same on every machine, and quick.
                OsStr::new("--encoding=UTF8"),
                OsStr::new("--locale=C"),
            ],
        )
        .map_err(io("create the server's data folder"))
}

fn append(file: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new().append(true).open(file)?.write_all(text.as_bytes())
}
