//! Settings of a server, and its start.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Mutex;

use super::config::{self, Config};
use super::installation::{Installation, PLUGINS};
use super::launch::launch;
use super::{Log, MariaDb};
use crate::account::{Account, give, write_for};
use crate::error::{StartError, io};
use crate::guardian::{Guardian, Signal};
use crate::launch::on_a_free_port;
use crate::programs::Programs;
use crate::tls::authorities;
use crate::tokens::{Module, TokenChecks};

/// A MariaDB server to be started.
///
/// By default it listens on 127.0.0.1, has room for 200 connections, notes each login, and
/// does not wait for the disk.
#[derive(Debug, Default)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    programs: Option<Programs>,
    settings: Vec<(String, String)>,
    tls: bool,
    tokens: bool,
}

impl Builder {
    /// Lets the server speak TLS, with a certificate for `localhost` and `127.0.0.1` by
    /// an authority that is made for this server, see [`MariaDb::ca_file`]. Clients may
    /// still connect without TLS.
    #[cfg(feature = "tls")]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Lets users log in with IAM tokens, as RDS does: those that
    /// [`MariaDb::create_token_role`] creates, over TLS alone, which this call turns on,
    /// and with a token that PAM finds to be good, see [`MariaDb::token_checks`]. The token
    /// comes in clear text inside TLS (`mysql_clear_password`). What is found bad is
    /// rejected with 1045.
    ///
    /// The server needs a C compiler then ([`Server::Pam`](crate::Server::Pam)), and starts
    /// some 0.2 s later.
    #[cfg(feature = "tls")]
    pub fn tokens(mut self) -> Self {
        self.tokens = true;
        self.tls()
    }

    /// An option of the server, as `max-connections`, without a line break. It wins over
    /// the default and over an earlier call; only the port cannot be set.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Where to look for the server's programs, in place of
    /// [`Programs::from_environment`].
    pub fn programs(mut self, programs: Programs) -> Self {
        self.programs = Some(programs);
        self
    }

    /// Creates the data folder, starts the server and waits until it takes connections:
    /// about a second, most of it for the system's tables.
    ///
    /// # Errors
    /// [`StartError::NotInstalled`] when there is no MariaDB on this machine. A server
    /// that does not come up within 30 s, or ends at once, is an error with the end of its
    /// log. Whatever fails, nothing is left behind.
    pub fn start(self) -> Result<MariaDb, StartError> {
        let places = self
            .programs
            .clone()
            .unwrap_or_else(Programs::from_environment);
        let installation = places.mariadb()?;
        let account = Account::to_drop_to().map_err(io("choose a user for the server"))?;
        let mut guardian = Guardian::start(account, Signal::Kill)
            .map_err(io("start the server's guardian process"))?;
        let folder = guardian.folder().to_owned();

        create(&mut guardian, &installation, account)?;
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
        let tokens = if self.tokens {
            Some(Module::build(&mut guardian, account, &places)?)
        } else {
            None
        };
        let log = Log::in_folder(&folder, guardian.server_log());
        let port = on_a_free_port(|port| {
            launch(&mut guardian, &installation, &config, tokens.as_ref(), port)
        })?;
        let token_checks = TokenChecks::new(&folder);
        Ok(MariaDb {
            guardian: Mutex::new(guardian),
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

/// To where the server's user can read them: a checkout may lie where only its owner can.
fn copy_plugins(
    installation: &Installation,
    folder: &Path,
    account: Option<Account>,
) -> io::Result<()> {
    fs::create_dir(folder)?;
    for plugin in PLUGINS {
        let copy = folder.join(plugin);
        fs::copy(installation.plugins.join(plugin), &copy)?;
        give(account, &copy)?;
    }
    give(account, folder)
}

/// Creates the data folder. The guardian does it, so that a test that is killed meanwhile
/// leaves nothing of it.
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
    let data = folder.join("data");
    fs::create_dir(&data)
        .and_then(|()| give(account, &data))
        .map_err(failed())?;
    guardian
        .run(&config::create(installation, &folder, &statements))
        .map_err(failed())?;
    if !data.join("mysql").is_dir() {
        // A statement that fails ends the server without a word in its status.
        return Err(failed()(io::Error::other(
            "the system's tables were not created",
        )));
    }
    Ok(())
}
