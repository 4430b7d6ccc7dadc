//! A Python that has moto and boto3: looking for one, and making one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::install::{InstallError, debian, run, say};
use crate::programs::Programs;
use crate::server::Server;
use crate::tools;

/// The versions that the tests were written with.
const MOTO: &str = "5.2.5";
const BOTO3: &str = "1.44.8";

/// Succeeds where moto's server can run. That these packages are there is seen without
/// loading them, which would take half a second.
const HAS_PACKAGES: &str = "\
import sys
from importlib.util import find_spec
sys.exit(any(find_spec(name) is None for name in ('moto', 'flask', 'flask_cors', 'boto3')))";

/// Succeeds where the versions above can be installed, at all and with Python's own pip:
/// Debian keeps `ensurepip` apart.
const CAN_HOLD: &str = "import sys, venv; sys.exit(sys.version_info < (3, 10))";
const HAS_ENSUREPIP: &str = "import ensurepip";
const HAS_PIP: &str = "import pip";

/// Where a Python looks for its packages.
const PACKAGES_FOLDER: &str = "import sysconfig; print(sysconfig.get_path('purelib'))";

/// This Python, made absolute, if it has the packages. A link is left as it is: what it
/// leads to would not know of the packages.
pub(crate) fn with_packages(program: &Path) -> Option<PathBuf> {
    let program = std::path::absolute(program).ok()?;
    succeeds(&program, HAS_PACKAGES).then_some(program)
}

/// The Python in the tools folder, if it has been made.
pub(crate) fn made_in(tools: &Path) -> Option<PathBuf> {
    with_packages(&python_in(&tools.join(folder_name())))
}

/// Makes a Python with the packages in the tools folder, and answers it.
pub(crate) fn install(programs: &Programs) -> Result<PathBuf, InstallError> {
    let tools = tools::folder().ok_or(InstallError::NoTargetFolder(Server::Moto))?;
    let maker = match Maker::find(programs) {
        Some(maker) => maker,
        None => {
            debian(Server::Moto)?;
            Maker::find(programs).ok_or_else(|| InstallError::StillMissing(programs.not_installed(Server::Moto)))?
        }
    };
    let folder = tools::once(&tools, &folder_name(), |folder| with_packages(&python_in(folder)).is_some(), |scratch| maker.make(scratch))?;
    Ok(python_in(&folder))
}

fn folder_name() -> String {
    format!("moto-{MOTO}-boto3-{BOTO3}")
}

fn python_in(environment: &Path) -> PathBuf {
    environment.join("bin/python3")
}

/// A Python that can make another, with packages of its own.
#[derive(Debug, PartialEq, Eq)]
struct Maker {
    python: PathBuf,
    pip: Pip,
}

/// Where the new Python's pip comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pip {
    /// It gets one of its own.
    Own,
    /// The maker's is used.
    Makers,
}

impl Maker {
    /// The first in the PATH that gives a pip, else the first that lends its own.
    fn find(programs: &Programs) -> Option<Self> {
        let pythons: Vec<_> = programs.each_in_path("python3").filter(|python| succeeds(python, CAN_HOLD)).collect();
        let with = |pip, check| Some(Self { python: pythons.iter().find(|python| succeeds(python, check))?.clone(), pip });
        with(Pip::Own, HAS_ENSUREPIP).or_else(|| with(Pip::Makers, HAS_PIP))
    }

    /// Makes the environment in this folder, which does not exist yet. It may be moved
    /// afterwards: nothing but the scripts beside `python3` names the folder.
    fn make(&self, environment: &Path) -> Result<(), InstallError> {
        say(&format!("moto is missing; {} makes an environment with moto {MOTO} and boto3 {BOTO3}", self.python.display()))?;
        let mut venv = Command::new(&self.python);
        venv.args(["-m", "venv"]);
        if self.pip == Pip::Makers {
            venv.arg("--without-pip");
        }
        run(Server::Moto, venv.arg(environment))?;

        let made = python_in(environment);
        let mut pip = match self.pip {
            Pip::Own => Command::new(&made),
            Pip::Makers => Command::new(&self.python),
        };
        pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
        if self.pip == Pip::Makers {
            let output = Command::new(&made).args(["-c", PACKAGES_FOLDER]).stdin(Stdio::null()).output()?;
            pip.arg("--target").arg(String::from_utf8_lossy(&output.stdout).trim());
        }
        run(Server::Moto, pip.args([format!("moto[server]=={MOTO}"), format!("boto3=={BOTO3}")]))
    }
}

fn succeeds(python: &Path, script: &str) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
