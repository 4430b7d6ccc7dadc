//! Debian packages that would start a service: their files are extracted, and the package is not
//! installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::install::{APT, InstallError, report_step, run_step};
use crate::server::Server;
use crate::tools;

const SCRIPT: &str = include_str!("debian.sh");

/// Files of a package to extract into a folder of their own among the tools.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unpacked<'a> {
    /// The server that needs them.
    pub(crate) server: Server,
    /// The folder's name in the tools folder.
    pub(crate) folder: &'a str,
    /// The package.
    pub(crate) package: &'a str,
    /// The package whose installed version is preferred.
    pub(crate) companion: &'a str,
    /// The files, by their paths in the package; `name=path` renames one.
    pub(crate) files: &'a [String],
    /// Whether missing libraries that the package depends on are extracted, too.
    pub(crate) libraries: bool,
    /// Subject and verb of the progress line, as `PgBouncer is`.
    pub(crate) subject: &'a str,
}

impl Unpacked<'_> {
    /// Downloads the package and extracts the files, unless `is_made` finds them; returns their
    /// folder.
    pub(crate) fn make(self, is_made: impl Fn(&Path) -> bool) -> Result<PathBuf, InstallError> {
        if !Path::new(APT).exists() {
            return Err(InstallError::NoApt(self.server));
        }
        let tools = tools::folder().ok_or(InstallError::NoTargetFolder(self.server))?;
        tools::make_once(&tools, self.folder, is_made, |folder| {
            report_step(&format!(
                "{} missing; unpacking from Debian's package {}, which is not installed",
                self.subject, self.package
            ))?;
            let mut command = Command::new("sh");
            command
                .args(["-c", SCRIPT, "claviger-unpack"])
                .arg(folder)
                .args([self.package, self.companion])
                .args(self.files);
            command.env(
                "CLAVIGER_LIBRARIES",
                if self.libraries { "yes" } else { "" },
            );
            run_step(self.server, &mut command)
        })
    }
}
