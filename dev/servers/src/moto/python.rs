//! A Python that has moto and boto3: looking for one, and making one.

use std::path::{Path, PathBuf};

use crate::install::InstallError;
use crate::programs::Programs;
use crate::python::{Environment, python_in, succeeds};
use crate::server::Server;

/// The versions that the tests were written with.
const MOTO: &str = "5.2.5";
const BOTO3: &str = "1.44.8";

/// Succeeds where moto's server can run. That these packages are there is seen without
/// loading them, which would take half a second.
const HAS_PACKAGES: &str = "\
import sys
from importlib.util import find_spec
sys.exit(any(find_spec(name) is None for name in ('moto', 'flask', 'flask_cors', 'boto3')))";

/// This Python, made absolute, if it has the packages. A link is left as it is: what it
/// leads to would not know of the packages.
pub(crate) fn with_packages(program: &Path) -> Option<PathBuf> {
    let program = std::path::absolute(program).ok()?;
    succeeds(&program, HAS_PACKAGES).then_some(program)
}

/// The Python in the tools folder, if it has been made.
pub(crate) fn made_in(tools: &Path) -> Option<PathBuf> {
    made(&tools.join(folder_name()))
}

/// Makes a Python with the packages in the tools folder, and returns it.
pub(crate) fn install(programs: &Programs) -> Result<PathBuf, InstallError> {
    let packages = [format!("moto[server]=={MOTO}"), format!("boto3=={BOTO3}")];
    let folder = Environment {
        server: Server::Moto,
        folder: &folder_name(),
        packages: &packages,
    }
    .make(programs, |folder| made(folder).is_some())?;
    Ok(python_in(&folder))
}

fn made(folder: &Path) -> Option<PathBuf> {
    with_packages(&python_in(folder))
}

fn folder_name() -> String {
    format!("moto-{MOTO}-boto3-{BOTO3}")
}
