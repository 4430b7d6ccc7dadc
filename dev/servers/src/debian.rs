//! Debian's packages that would start a service: files are taken out of them, and they are not
//! installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::install::{APT, InstallError, run, say};
use crate::server::Server;
use crate::tools;

const SCRIPT: &str = include_str!("debian.sh");

/// Files of a package, to be put into a folder of their own among the tools.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unpacked<'a> {
    /// What they are for.
    pub(crate) server: Server,
    /// The folder's name in the tools folder.
    pub(crate) folder: &'a str,
    /// The package.
    pub(crate) package: &'a str,
    /// Another package, which is taken in the same version where it is installed.
    pub(crate) companion: &'a str,
    /// The files, by their paths in the package.
    pub(crate) files: &'a [String],
    /// Returns whether missing libraries that the package depends on are put beside the files.
    pub(crate) libraries: bool,
    /// What they are, for the line that says what is done.
    pub(crate) what: &'a str,
}

impl Unpacked<'_> {
    /// Fetches the package and takes the files out, unless `is_made` says that they are there;
    /// answers their folder.
    pub(crate) fn make(self, is_made: impl Fn(&Path) -> bool) -> Result<PathBuf, InstallError> {
        if !Path::new(APT).exists() {
            return Err(InstallError::NoApt(self.server));
        }
        let tools = tools::folder().ok_or(InstallError::NoTargetFolder(self.server))?;
        tools::make_once(&tools, self.folder, is_made, |folder| {
            say(&format!(
                "{} missing; unpacking from Debian's package {}, which is not installed",
                self.what, self.package
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
            run(self.server, &mut command)
        })
    }
}
