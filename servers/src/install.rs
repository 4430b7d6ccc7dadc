//! Installing a server that is missing, on Debian and Ubuntu.

use std::env;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::account;
use crate::programs::{NotInstalled, Programs, Server};

const SCRIPT: &str = include_str!("install.sh");
const APT: &str = "/usr/bin/apt-get";

/// Installs a server's packages, unless its programs are there already, and answers the
/// folder of its programs.
///
/// It does so only where nobody can be surprised by it: on Debian or Ubuntu, and as root
/// or where the environment variable `CI` is set (then by `sudo -n`, which never asks for
/// a password). It says on stderr what it does. The packages start no service and create
/// no database: a `policy-rc.d` and a `createcluster.conf` keep them from it, are never
/// written over files that exist, and are gone afterwards. When the installation fails,
/// what it brought along is removed again.
///
/// # Errors
/// [`InstallError`], which carries the line that a user can type instead where this
/// function may not act.
pub fn install(server: Server) -> Result<PathBuf, InstallError> {
    let programs = Programs::from_environment();
    if let Ok(folder) = programs.find(server) {
        return Ok(folder);
    }
    if !Path::new(APT).exists() {
        return Err(InstallError::NoApt(server));
    }
    let root = account::is_root().map_err(InstallError::Io)?;
    if !root && !in_ci() {
        return Err(InstallError::NotAllowed(server));
    }
    say(server).map_err(InstallError::Io)?;
    let mut command = if root {
        Command::new("sh")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "sh"]);
        sudo
    };
    let status = command
        .args(["-c", SCRIPT, "claviger-install"])
        .args(server.debian_packages())
        .stdin(Stdio::null())
        .status()
        .map_err(InstallError::Io)?;
    if !status.success() {
        return Err(InstallError::Failed(server, status));
    }
    programs.find(server).map_err(InstallError::StillMissing)
}

fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

fn say(server: Server) -> io::Result<()> {
    writeln!(
        io::stderr(),
        "claviger: {server} is missing; running apt-get update, then apt-get install -y --no-install-recommends {} \
         (no service is started, no database created)",
        server.debian_packages().join(" "),
    )
}

/// Why [`install`] did not install.
#[derive(Debug)]
#[non_exhaustive]
pub enum InstallError {
    /// There is no apt-get, hence no Debian or Ubuntu.
    NoApt(Server),
    /// Neither root nor CI: whose machine it is decides what is installed on it.
    NotAllowed(Server),
    /// A program could not be run.
    Io(io::Error),
    /// apt-get failed; its messages went to stderr.
    Failed(Server, ExitStatus),
    /// The packages are installed, and yet the programs are not where they should be.
    StillMissing(NotInstalled),
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoApt(server) => write!(
                f,
                "{server} can be installed here only by hand: there is no {APT}; put its programs into the PATH or name their folder in {}",
                server.variable(),
            ),
            Self::NotAllowed(server) => write!(
                f,
                "{server} is not installed, and it is installed unasked only as root or in CI; install it with: {}",
                server.install_command(),
            ),
            Self::Io(_) => f.write_str("a program needed for the installation did not run"),
            Self::Failed(server, status) => {
                write!(f, "the installation of {server} failed ({status}); try it by hand: {}", server.install_command(),)
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
            Self::NoApt(_) | Self::NotAllowed(_) | Self::Failed(..) => None,
        }
    }
}
