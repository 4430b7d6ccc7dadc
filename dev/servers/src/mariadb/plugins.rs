//! The plugins that Debian packages together with a service, extracted without it.

use std::path::{Path, PathBuf};

use super::installation::{PLUGINS, has_plugins};
use crate::debian::Unpacked;
use crate::install::{InstallError, debian};
use crate::programs::Programs;
use crate::server::Server;

/// The folder's name among the tools.
const NAME: &str = "mariadb-plugins";

/// Returns the folder of the plugins in the tools folder, whether it exists or not.
pub(crate) fn in_tools(tools: &Path) -> PathBuf {
    tools.join(NAME)
}

/// Installs Debian packages, unless a server is installed, and the plugins in the tools folder;
/// returns the server's folder.
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
        subject: "MariaDB's plugins are",
    };
    plugins.make(has_plugins)?;
    programs
        .find(Server::MariaDb)
        .map_err(InstallError::StillMissing)
}
