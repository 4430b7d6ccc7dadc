//! Starts and stops a PostgreSQL server.

mod builder;
mod config;
mod faults;
mod launch;
mod log;
mod sql;

use std::path::{Path, PathBuf};

use crate::error::StartError;
use crate::guardian::SharedGuardian;
use crate::ports::HOST;
use crate::tls::Authorities;
use crate::tokens::TokenChecks;
use launch::Run;

pub use builder::PostgresBuilder;
pub use log::PostgresLog;
pub use sql::{quote_identifier, quote_literal};

/// The role that `initdb` creates.
const SUPERUSER: &str = "postgres";

/// A running PostgreSQL server with a data folder of its own.
///
/// Clients authenticate over TCP at [`host`](Self::host) and [`port`](Self::port) with
/// SCRAM-SHA-256, or with a token if enabled ([`PostgresBuilder::tokens`](PostgresBuilder)). The
/// superuser is accepted over the socket only, without a password; the socket is in a private
/// folder.
///
/// Dropping it stops the server and removes its files, in some 20 ms, a few seconds at most. Every
/// method takes `&self`, so a test can share the server with its tasks.
#[derive(Debug)]
pub struct Postgres {
    guardian: SharedGuardian,
    run: Run,
    folder: PathBuf,
    port: u16,
    log: PostgresLog,
    authorities: Option<Authorities>,
    token_checks: TokenChecks,
}

impl Postgres {
    /// Starts a server without TLS and with the default settings, see [`PostgresBuilder`].
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`].
    pub fn start() -> Result<Self, StartError> {
        Self::builder().start()
    }

    /// Returns a builder with the default settings.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
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

    /// Returns the server's folder, with the Unix socket. It is deleted with the server.
    pub fn socket_dir(&self) -> &Path {
        &self.folder
    }

    /// Returns the process id of the postmaster, `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.guardian.lock().server()
    }

    /// Returns the name of the superuser.
    pub fn superuser(&self) -> &str {
        SUPERUSER
    }

    /// Returns the PEM file of the authority that signed the server's certificate, for
    /// `sslrootcert`; `None` without TLS.
    pub fn ca_file(&self) -> Option<&Path> {
        Some(&self.authorities.as_ref()?.own)
    }

    /// Returns the PEM file of an authority that has nothing to do with this server: a client
    /// that trusts it must reject the server. `None` without TLS.
    pub fn unrelated_ca_file(&self) -> Option<&Path> {
        Some(&self.authorities.as_ref()?.unrelated)
    }

    /// Returns the folder of the server's programs (`psql`, `pg_dump`, …).
    pub fn programs(&self) -> &Path {
        &self.run.programs
    }

    /// Returns the server's log.
    pub fn log(&self) -> &PostgresLog {
        &self.log
    }

    /// Returns the server's checks of tokens, and the means to make it reject tokens. Each method
    /// fails for a server without [`PostgresBuilder::tokens`].
    pub fn token_checks(&self) -> &TokenChecks {
        &self.token_checks
    }
}
