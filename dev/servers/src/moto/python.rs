//! A Python with moto and boto3.

use std::path::{Path, PathBuf};

use crate::install::InstallError;
use crate::programs::Programs;
use crate::python::{Environment, python_in, succeeds};
use crate::server::Server;

/// The versions that the tests were written for.
const MOTO: &str = "5.2.5";
const BOTO3: &str = "1.44.8";

/// Succeeds if the packages are installed. They are not imported, which would take half a second.
const HAS_PACKAGES: &str = "\
import sys
from importlib.util import find_spec
sys.exit(any(find_spec(name) is None for name in ('moto', 'flask', 'flask_cors', 'boto3')))";

/// Returns this Python as an absolute path, if it has the packages. A link is not resolved, because
/// its target would not find the packages.
pub(crate) fn with_packages(program: &Path) -> Option<PathBuf> {
    let program = std::path::absolute(program).ok()?;
    succeeds(&program, HAS_PACKAGES).then_some(program)
}

/// Returns the Python in the tools folder, if it exists.
pub(crate) fn installed_in(tools: &Path) -> Option<PathBuf> {
    complete_python_in(&tools.join(folder_name()))
}

/// Creates a Python with the packages in the tools folder and returns its path.
pub(crate) fn install(programs: &Programs) -> Result<PathBuf, InstallError> {
    let packages = [format!("moto[server]=={MOTO}"), format!("boto3=={BOTO3}")];
    let folder = Environment {
        server: Server::Moto,
        folder: &folder_name(),
        packages: &packages,
    }
    .make(programs, |folder| complete_python_in(folder).is_some())?;
    Ok(python_in(&folder))
}

fn complete_python_in(folder: &Path) -> Option<PathBuf> {
    with_packages(&python_in(folder))
}

fn folder_name() -> String {
    format!("moto-{MOTO}-boto3-{BOTO3}")
}
