//! The plugins that Debian packages together with a service: fetched without it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::installation::{PLUGINS, has_plugins};
use crate::install::{InstallError, debian, run, say};
use crate::programs::Programs;
use crate::server::Server;
use crate::tools;

const SCRIPT: &str = include_str!("plugins.sh");

/// The folder's name among the tools.
const NAME: &str = "mariadb-plugins";

/// The folder of the plugins in the tools folder, made or not.
pub(crate) fn in_tools(tools: &Path) -> PathBuf {
    tools.join(NAME)
}

/// Installs Debian's packages, unless a server is there already, and the plugins beside what
/// cargo builds; answers the folder of the server.
pub(crate) fn install(programs: &Programs) -> Result<PathBuf, InstallError> {
    if !programs.has_bare_mariadb() {
        debian(Server::MariaDb)?;
    }
    if let Ok(folder) = programs.find(Server::MariaDb) {
        return Ok(folder);
    }
    let tools = tools::folder().ok_or(InstallError::NoTargetFolder(Server::MariaDb))?;
    tools::once(&tools, NAME, has_plugins, |folder| {
        say("MariaDB's plugins are missing; unpacking them from Debian's package mariadb-server, which is not installed")?;
        run(Server::MariaDb, Command::new("sh").args(["-c", SCRIPT, "claviger-plugins"]).arg(folder).args(PLUGINS))
    })?;
    programs.find(Server::MariaDb).map_err(InstallError::StillMissing)
}
