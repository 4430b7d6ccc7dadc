//! The programs `prometheus` and `promtool`, without the service of Debian's package.

use std::path::{Path, PathBuf};

use crate::debian::Unpacked;
use crate::install::InstallError;
use crate::programs::{Programs, is_program};
use crate::server::Server;

/// The folder's name among the tools.
const NAME: &str = "prometheus";

/// Returns the folder of the programs in the tools folder, whether it exists or not.
pub(crate) fn in_tools(tools: &Path) -> PathBuf {
    tools.join(NAME)
}

/// Extracts the programs into the tools folder and returns their folder.
pub(crate) fn install(programs: &Programs) -> Result<PathBuf, InstallError> {
    let names = Server::Prometheus.programs();
    let files: Vec<_> = names.iter().map(|name| format!("usr/bin/{name}")).collect();
    let unpacked = Unpacked {
        server: Server::Prometheus,
        folder: NAME,
        package: "prometheus",
        companion: "prometheus",
        files: &files,
        libraries: false,
        subject: "Prometheus is",
    };
    unpacked.make(|folder| names.iter().all(|name| is_program(&folder.join(name))))?;
    programs
        .find(Server::Prometheus)
        .map_err(InstallError::StillMissing)
}
