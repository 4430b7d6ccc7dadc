//! Starts and stops a MariaDB server.

mod accounts;
mod builder;
mod config;
mod faults;
pub(crate) mod installation;
mod launch;
mod log;
pub(crate) mod plugins;
mod sql;

use std::path::Path;

use crate::error::StartError;
use crate::guardian::SharedGuardian;
use crate::ports::HOST;
use crate::tls::Authorities;
use crate::tokens::{Module, TokenChecks};

pub use builder::MariaDbBuilder;
use config::Config;
use installation::Installation;
pub use log::MariaDbLog;
pub use sql::{quote_identifier, quote_literal};

/// The superuser, accepted over the socket only.
const SUPERUSER: &str = "root";

/// A running MariaDB server with a data folder of its own.
///
/// Clients authenticate over TCP at [`host`](Self::host) and [`port`](Self::port) with a password,
/// or with a token if enabled (`MariaDbBuilder::tokens`). There are no anonymous users, because
/// they would shadow others. The superuser is accepted over the socket only, without a password;
/// the socket is in a private folder.
///
/// Dropping it kills the server and removes its files, in some 50 ms. Every method takes `&self`,
/// so a test can share the server with its tasks.
#[derive(Debug)]
pub struct MariaDb {
    guardian: SharedGuardian,
    installation: Installation,
    config: Config,
    port: u16,
    log: MariaDbLog,
    authorities: Option<Authorities>,
    tokens: Option<Module>,
    token_checks: TokenChecks,
}

impl MariaDb {
    /// Starts a server without TLS and with the default settings, see [`MariaDbBuilder`].
    ///
    /// # Errors
    /// As [`MariaDbBuilder::start`].
    pub fn start() -> Result<Self, StartError> {
        Self::builder().start()
    }

    /// Returns a builder with the default settings.
    pub fn builder() -> MariaDbBuilder {
        MariaDbBuilder::default()
    }

    /// Returns the address that it listens on: `127.0.0.1`. Its certificate is valid for that and
    /// for `localhost`.
    pub fn host(&self) -> &str {
        HOST
    }

    /// Returns the TCP port, the same after [`start_again`](Self::start_again).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the server's folder, with the Unix socket `mariadb.sock`. It is deleted with the
    /// server.
    pub fn socket_dir(&self) -> &Path {
        self.config.folder()
    }

    /// Returns the process id of the server, `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.guardian.lock().server()
    }

    /// Returns the name of the superuser.
    pub fn superuser(&self) -> &str {
        SUPERUSER
    }

    /// Returns the PEM file of the authority that signed the server's certificate, for
    /// `ssl-ca`; `None` without TLS.
    pub fn ca_file(&self) -> Option<&Path> {
        Some(&self.authorities.as_ref()?.own)
    }

    /// Returns the PEM file of an authority that has nothing to do with this server: a client
    /// that trusts it must reject the server. `None` without TLS.
    pub fn unrelated_ca_file(&self) -> Option<&Path> {
        Some(&self.authorities.as_ref()?.unrelated)
    }

    /// Returns the client program `mariadb`.
    pub fn client(&self) -> &Path {
        &self.installation.client
    }

    /// Returns the server's logs.
    pub fn log(&self) -> &MariaDbLog {
        &self.log
    }

    /// Returns the server's checks of tokens, and the means to make it reject tokens. Each method
    /// fails for a server without `MariaDbBuilder::tokens`.
    ///
    /// MariaDB verifies the token before it checks for TLS. A good token without TLS is therefore
    /// counted as accepted, though the login is rejected.
    pub fn token_checks(&self) -> &TokenChecks {
        &self.token_checks
    }
}
