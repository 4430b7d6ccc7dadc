//! The program `redis-server`, without the service of Debian's package.

use std::path::{Path, PathBuf};

use crate::debian::Unpacked;
use crate::install::InstallError;
use crate::programs::{Programs, is_program};
use crate::server::Server;

/// The folder's name among the tools.
const NAME: &str = "redis";

/// Returns the folder of the program in the tools folder, whether it exists or not.
pub(crate) fn in_tools(tools: &Path) -> PathBuf {
    tools.join(NAME)
}

/// Extracts the program and missing libraries into the tools folder and returns their folder.
pub(crate) fn install(programs: &Programs) -> Result<PathBuf, InstallError> {
    let unpacked = Unpacked {
        server: Server::Redis,
        folder: NAME,
        // It contains the server's program. The package `redis-server` has the service, and a link
        // to this file. The program acts by the name that it is run as.
        package: "redis-tools",
        companion: "redis-tools",
        files: &["redis-server=usr/bin/redis-check-rdb".to_owned()],
        libraries: true,
        subject: "Redis is",
    };
    unpacked.make(|folder| is_program(&folder.join("redis-server")))?;
    programs
        .find(Server::Redis)
        .map_err(InstallError::StillMissing)
}
