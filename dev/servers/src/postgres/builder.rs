//! Settings of a server, and its start.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use super::launch::launch;
use super::{Log, Postgres, SUPERUSER, config};
use crate::account::Account;
use crate::error::{StartError, io};
use crate::guardian::{Guardian, Signal};
use crate::launch::on_a_free_port;
use crate::programs::Programs;
use crate::server::Server;
use crate::tls::authorities;
use crate::tokens::{Module, TokenChecks};

/// A PostgreSQL server to be started.
///
/// By default it listens on 127.0.0.1, asks for passwords with SCRAM-SHA-256, has room for
/// 200 connections, writes a line to its log for each login and log-out, and does not
/// wait for the disk.
#[derive(Debug, Default)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    programs: Option<Programs>,
    settings: Vec<(String, String)>,
    access: Vec<String>,
    tls: bool,
    tokens: bool,
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

    /// Lets roles log in with IAM tokens, as RDS does: those that
    /// [`Postgres::create_token_role`] creates, over TLS alone, which this call turns on,
    /// and with a token that PAM finds to be good, see [`Postgres::token_checks`]. What it
    /// finds bad is rejected with 28000 `PAM authentication failed for user`.
    ///
    /// The server needs a C compiler then ([`Server::Pam`]), and starts some 0.2 s later.
    #[cfg(feature = "tls")]
    pub fn tokens(mut self) -> Self {
        self.tokens = true;
        self.tls()
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
        let places = self
            .programs
            .clone()
            .unwrap_or_else(Programs::from_environment);
        let programs = places.find(Server::PostgreSql)?;
        let account = Account::to_drop_to().map_err(io("choose a user for the server"))?;
        let mut guardian = Guardian::start(account, Signal::Quit)
            .map_err(io("start the server's guardian process"))?;
        let folder = guardian.folder().to_owned();
        let data = folder.join("data");

        init(&mut guardian, &programs, &data)?;
        let authorities = authorities(self.tls, &folder, account)?;
        let settings = config::settings(&folder, authorities.is_some(), &self.settings);
        append(&data.join("postgresql.conf"), &settings)
            .map_err(io("write the server's settings"))?;
        let access = config::access(&self.access, authorities.is_some(), self.tokens);
        fs::write(data.join("pg_hba.conf"), access).map_err(io("write the server's settings"))?;

        let tokens = if self.tokens {
            Some(Module::build(&mut guardian, account, &places)?)
        } else {
            None
        };
        let port = on_a_free_port(|port| launch(&mut guardian, &programs, tokens.as_ref(), port))?;
        let log = Log::new(guardian.server_log());
        let token_checks = TokenChecks::new(&folder);
        let server = Postgres {
            guardian: Mutex::new(guardian),
            programs,
            folder,
            port,
            log,
            authorities,
            tokens,
            token_checks,
        };
        if self.tokens {
            server.create_token_group().map_err(|error| {
                io("create the role of those who log in with a token")(std::io::Error::other(error))
            })?;
        }
        Ok(server)
    }
}

/// Creates the data folder. The guardian does it, so that a test that is killed meanwhile
/// leaves nothing of it.
fn init(guardian: &mut Guardian, programs: &Path, data: &Path) -> Result<(), StartError> {
    let mut command = vec![
        programs.join("initdb").into_os_string(),
        "--pgdata".into(),
        data.as_os_str().to_owned(),
    ];
    command.extend(["--username", SUPERUSER, "--no-sync"].map(OsString::from));
    // Replaced by our own pg_hba.conf before the server runs.
    command.push("--auth=trust".into());
    // The same on every machine, and quick.
    command.extend(["--encoding=UTF8", "--locale=C"].map(OsString::from));
    guardian
        .run(&command)
        .map_err(io("create the server's data folder"))
}

fn append(file: &Path, text: &str) -> std::io::Result<()> {
    OpenOptions::new()
        .append(true)
        .open(file)?
        .write_all(text.as_bytes())
}
