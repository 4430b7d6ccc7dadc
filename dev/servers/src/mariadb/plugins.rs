//! The plugins that Debian packages together with a service: fetched without it.

use std::path::{Path, PathBuf};

use super::installation::{PLUGINS, has_plugins};
use crate::debian::Unpacked;
use crate::install::{InstallError, debian};
use crate::programs::Programs;
use crate::server::Server;

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
    let files = PLUGINS.map(|plugin| format!("usr/lib/mysql/plugin/{plugin}"));
    let plugins = Unpacked {
        server: Server::MariaDb,
        folder: NAME,
        package: "mariadb-server",
        companion: "mariadb-server-core",
        files: &files,
        libraries: false,
        what: "MariaDB's plugins are",
    };
    plugins.make(has_plugins)?;
    programs
        .find(Server::MariaDb)
        .map_err(InstallError::StillMissing)
}
