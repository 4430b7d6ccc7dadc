//! Settings of a server, and its start.

use std::fs;
use std::io;
use std::path::Path;

use super::config::{self, Config};
use super::installation::{Installation, PLUGINS};
use super::launch::launch;
use super::{MariaDb, MariaDbLog};
use crate::account::{Account, change_owner, write_for};
use crate::data_folder::{create_data_folder, data_of};
use crate::error::{StartError, io};
use crate::guardian::{Guardian, SharedGuardian, Signal};
use crate::launch::on_a_free_port;
use crate::programs::Programs;
use crate::tls::authorities;
use crate::tokens::{Module, TokenChecks};

/// A MariaDB server to start.
///
/// By default it listens on 127.0.0.1, accepts 200 connections, logs each login, and does not wait
/// for the disk.
#[derive(Debug, Default)]
#[must_use = "nothing runs before `start`"]
pub struct MariaDbBuilder {
    programs: Option<Programs>,
    settings: Vec<(String, String)>,
    tls: bool,
    tokens: bool,
}

impl MariaDbBuilder {
    /// Enables TLS, with a certificate for `localhost` and `127.0.0.1` by an authority of this
    /// server, see [`MariaDb::ca_file`]. Connections without TLS remain possible.
    #[cfg(feature = "tls")]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Enables logins with IAM tokens, as on RDS, for users of [`MariaDb::create_token_role`]. They
    /// require TLS, which this call enables. The token is sent in clear text inside TLS
    /// (`mysql_clear_password`); PAM verifies it, see [`MariaDb::token_checks`]. A rejected token
    /// is error 1045.
    ///
    /// The server then needs a C compiler ([`Server::Pam`](crate::Server::Pam)), and starts some
    /// 0.2 s later.
    #[cfg(feature = "tls")]
    pub fn tokens(mut self) -> Self {
        self.tokens = true;
        self.tls()
    }

    /// Sets an option of the server, as `max-connections`, without a line break. It overrides the
    /// default and an earlier call; the port cannot be set.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Sets where to look for the server's programs. Default: [`Programs::from_environment`].
    pub fn programs(mut self, programs: Programs) -> Self {
        self.programs = Some(programs);
        self
    }

    /// Creates the data folder, starts the server and waits until it accepts connections: about a
    /// second, most of it for the system tables.
    ///
    /// # Errors
    /// [`StartError::NotInstalled`] without MariaDB on this machine. A server that ends, or is not
    /// ready within 30 s, is an error with the end of its log. Nothing is left behind.
    pub fn start(self) -> Result<MariaDb, StartError> {
        let places = self.programs.unwrap_or_else(Programs::from_environment);
        let installation = places.mariadb()?;
        let account = Account::to_drop_to().map_err(io("choose a user for the server"))?;
        let mut guardian = Guardian::start(account, Signal::Kill)?;
        let folder = guardian.folder().to_owned();

        create_data_folder(&mut guardian, account, &installation.server, |guardian| {
            create(guardian, &installation, account)
        })?;
        let plugins = folder.join("plugins");
        copy_plugins(&installation, &plugins, account).map_err(io("copy the server's plugins"))?;
        let authorities = authorities(self.tls, &folder, account)?;
        let config = Config::new(
            &folder,
            &plugins,
            authorities.is_some(),
            self.tokens,
            &self.settings,
        );
        let tokens = self
            .tokens
            .then(|| Module::build(&mut guardian, account, &places))
            .transpose()?;
        let log = MariaDbLog::in_folder(&folder, guardian.server_log());
        let port = on_a_free_port(|port| {
            launch(&mut guardian, &installation, &config, tokens.as_ref(), port)
        })?;
        let token_checks = TokenChecks::new(&folder);
        Ok(MariaDb {
            guardian: SharedGuardian::new(guardian),
            installation,
            config,
            port,
            log,
            authorities,
            tokens,
            token_checks,
        })
    }
}

/// Copies the plugins to where the server's user can read them, because a checkout may be private.
fn copy_plugins(
    installation: &Installation,
    folder: &Path,
    account: Option<Account>,
) -> io::Result<()> {
    fs::create_dir(folder)?;
    for plugin in PLUGINS {
        let copy = folder.join(plugin);
        fs::copy(installation.plugins.join(plugin), &copy)?;
        change_owner(account, &copy)?;
    }
    change_owner(account, folder)
}

/// Creates the data folder. The guardian does it, so that a killed test leaves nothing behind.
fn create(
    guardian: &mut Guardian,
    installation: &Installation,
    account: Option<Account>,
) -> Result<(), StartError> {
    let folder = guardian.folder().to_owned();
    let failed = || io("create the server's data folder");
    let statements = folder.join("create.sql");
    let text = config::statements(installation).map_err(failed())?;
    write_for(account, &statements, &text).map_err(failed())?;
    let data = data_of(guardian);
    fs::create_dir(&data)
        .and_then(|()| change_owner(account, &data))
        .map_err(failed())?;
    guardian
        .run(&config::create(installation, &folder, &statements))
        .map_err(failed())?;
    if !data.join("mysql").is_dir() {
        // The exit status does not show that a statement failed.
        return Err(failed()(io::Error::other(
            "the system tables were not created",
        )));
    }
    Ok(())
}
