//! The program `pgbouncer`, without the service of Debian's package.

use std::path::{Path, PathBuf};

use crate::debian::Unpacked;
use crate::install::InstallError;
use crate::programs::{Programs, is_program};
use crate::server::Server;

/// The folder's name among the tools.
const NAME: &str = "pgbouncer";

/// Returns the folder of the program in the tools folder, whether it exists or not.
pub(crate) fn in_tools(tools: &Path) -> PathBuf {
    tools.join(NAME)
}

/// Extracts the program and missing libraries into the tools folder and returns their folder.
pub(crate) fn install(programs: &Programs) -> Result<PathBuf, InstallError> {
    let unpacked = Unpacked {
        server: Server::PgBouncer,
        folder: NAME,
        package: "pgbouncer",
        companion: "pgbouncer",
        files: &["usr/sbin/pgbouncer".to_owned()],
        libraries: true,
        subject: "PgBouncer is",
    };
    unpacked.make(|folder| is_program(&folder.join("pgbouncer")))?;
    programs
        .find(Server::PgBouncer)
        .map_err(InstallError::StillMissing)
}
