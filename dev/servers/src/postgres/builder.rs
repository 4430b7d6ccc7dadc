//! Settings of a server, and its start.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::launch::{Run, launch};
use super::{Postgres, PostgresLog, SUPERUSER, config};
use crate::account::Account;
use crate::data_folder::{create_data_folder, data_of};
use crate::error::{StartError, io};
use crate::guardian::{Guardian, SharedGuardian, Signal};
use crate::launch::on_a_free_port;
use crate::programs::Programs;
use crate::server::Server;
use crate::tls::authorities;
use crate::tokens::{Module, TokenChecks};

/// A PostgreSQL server to start.
///
/// By default it listens on 127.0.0.1, requires passwords with SCRAM-SHA-256, accepts 200
/// connections, logs each login and disconnection, and does not wait for the disk.
#[derive(Debug, Default)]
#[must_use = "nothing runs before `start`"]
pub struct PostgresBuilder {
    programs: Option<Programs>,
    settings: Vec<(String, String)>,
    access: Vec<String>,
    tls: bool,
    tokens: bool,
    language: Option<String>,
}

impl PostgresBuilder {
    /// Enables TLS, with a certificate for `localhost` and `127.0.0.1` by an authority of this
    /// server, see [`Postgres::ca_file`]. Connections without TLS remain possible.
    #[cfg(feature = "tls")]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Enables logins with IAM tokens, as on RDS, for roles of [`Postgres::create_token_role`].
    /// They require TLS, which this call enables. PAM verifies the token, see
    /// [`Postgres::token_checks`]. A rejected token is 28000 `PAM authentication failed for user`.
    ///
    /// The server then needs a C compiler ([`Server::Pam`]), and starts some 0.2 s later.
    #[cfg(feature = "tls")]
    pub fn tokens(mut self) -> Self {
        self.tokens = true;
        self.tls()
    }

    /// Adds a line of `postgresql.conf`; the value is quoted, the name is not. It overrides the
    /// default and an earlier call; the port cannot be set.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Adds a line of `pg_hba.conf`, as `hostssl all app 127.0.0.1/32 cert`. The lines keep the
    /// order of the calls. They follow the superuser's line and precede the defaults, which they
    /// override.
    pub fn hba(mut self, line: impl Into<String>) -> Self {
        self.access.push(line.into());
        self
    }

    /// Sets the language of the server's messages, such as `de`. It has those whose catalogs are
    /// installed beside it. The methods of [`PostgresLog`] read English messages alone.
    pub fn language(mut self, language: impl Into<String>) -> Self {
        self.language = Some(language.into());
        // With `C`, the language would not count.
        self.setting("lc_messages", "C.UTF-8")
    }

    /// Sets where to look for the server's programs. Default: [`Programs::from_environment`].
    pub fn programs(mut self, programs: Programs) -> Self {
        self.programs = Some(programs);
        self
    }

    /// Creates the data folder, starts the server and waits until it accepts connections. Takes
    /// some 0.2 s, and half a second more for the first server of a process.
    ///
    /// # Errors
    /// [`StartError::NotInstalled`] without PostgreSQL on this machine. A server that ends, or is
    /// not ready within 30 s, is an error with the end of its log. Nothing is left behind.
    pub fn start(self) -> Result<Postgres, StartError> {
        let places = self.programs.unwrap_or_else(Programs::from_environment);
        let programs = places.find(Server::PostgreSql)?;
        let account = Account::to_drop_to().map_err(io("choose a user for the server"))?;
        let mut guardian = Guardian::start(account, Signal::Quit)?;
        let folder = guardian.folder().to_owned();
        let initdb = programs.join("initdb");
        let data = create_data_folder(&mut guardian, account, &initdb, |guardian| {
            init(guardian, &initdb)
        })?;
        let authorities = authorities(self.tls, &folder, account)?;
        let settings = config::settings(&folder, authorities.is_some(), &self.settings);
        append(&data.join("postgresql.conf"), &settings)
            .map_err(io("write the server's settings"))?;
        let access = config::access(&self.access, authorities.is_some(), self.tokens);
        fs::write(data.join("pg_hba.conf"), access).map_err(io("write the server's settings"))?;

        let tokens = self
            .tokens
            .then(|| Module::build(&mut guardian, account, &places))
            .transpose()?;
        let run = Run {
            programs,
            tokens,
            language: self.language,
        };
        let port = on_a_free_port(|port| launch(&mut guardian, &run, port))?;
        let log = PostgresLog::new(guardian.server_log());
        let token_checks = TokenChecks::new(&folder);
        let server = Postgres {
            guardian: SharedGuardian::new(guardian),
            run,
            folder,
            port,
            log,
            authorities,
            token_checks,
        };
        if self.tokens {
            server.create_token_group().map_err(|error| {
                io("create the role of token users")(std::io::Error::other(error))
            })?;
        }
        Ok(server)
    }
}

/// Creates the data folder. The guardian does it, so that a killed test leaves nothing behind.
fn init(guardian: &mut Guardian, initdb: &Path) -> Result<(), StartError> {
    let mut command = vec![
        initdb.as_os_str().to_owned(),
        "--pgdata".into(),
        data_of(guardian).into_os_string(),
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
