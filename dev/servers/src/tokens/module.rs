//! The PAM module: building it, and the server's environment that loads it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{CHECKS, EXPIRED_SESSIONS};
use crate::account::{Account, change_owner, write_for};
use crate::error::{StartError, io};
use crate::guardian::Guardian;
use crate::programs::Programs;
use crate::server::Server;

/// The PAM service of the servers.
pub(crate) const SERVICE: &str = "rds_iam";

/// The module's folder, in the server's.
pub(super) const FOLDER: &str = "tokens";

const SOURCE: &str = include_str!("pam.c");
const ENV: &str = "/usr/bin/env";

/// A module that has been built into a server's folder.
#[derive(Debug)]
pub(crate) struct Module {
    folder: PathBuf,
    library: PathBuf,
}

impl Module {
    /// Builds the module with the system's C compiler, in a tenth of a second. The guardian does
    /// it, so that a killed test leaves nothing behind.
    pub(crate) fn build(
        guardian: &mut Guardian,
        account: Option<Account>,
        programs: &Programs,
    ) -> Result<Self, StartError> {
        let compiler = programs.find(Server::Pam)?.join("cc");
        let folder = guardian.folder().join(FOLDER);
        let source = folder.join("pam.c");
        let library = folder.join("claviger_tokens.so");
        let failed = || io("write the PAM module");
        if folder
            .as_os_str()
            .as_bytes()
            .iter()
            .any(|byte| byte.is_ascii_whitespace() || *byte == b':')
        {
            // LD_PRELOAD is a list without quotes.
            let error = format!(
                "{}: the path must be without white space and colons; set TMPDIR to such a folder",
                folder.display()
            );
            return Err(failed()(io::Error::new(io::ErrorKind::InvalidInput, error)));
        }
        for folder in [&folder, &folder.join(EXPIRED_SESSIONS)] {
            fs::create_dir(folder)
                .and_then(|()| change_owner(account, folder))
                .map_err(failed())?;
        }
        let service = format!(
            "auth required {0}\naccount required {0}\n",
            library.display()
        );
        for (name, text) in [
            (&source, SOURCE),
            (&folder.join(SERVICE), &service),
            (&folder.join(CHECKS), ""),
        ] {
            write_for(account, name, text).map_err(failed())?;
        }
        // Temporary files of a killed compiler are deleted with the folder.
        let scratch = variable("TMPDIR", &folder);
        let mut command = vec![ENV.into(), scratch, compiler.into_os_string()];
        command.extend(["-shared", "-fPIC", "-O1", "-Wl,--no-undefined", "-o"].map(OsString::from));
        command.extend([library.clone().into_os_string(), source.into_os_string()]);
        // The file name that exists without libpam's development package.
        command.push("-l:libpam.so.0".into());
        let built = guardian.run(&command);
        built.map_err(io(
            "build the PAM module with `cc` (on Debian and Ubuntu it needs the \
             packages gcc, libc6-dev and libpam0g)",
        ))?;
        Ok(Self { folder, library })
    }

    /// Returns the command line of a server with the module; the process id stays the server's.
    pub(crate) fn wrap(&self, server: Vec<OsString>) -> Vec<OsString> {
        let environment = [
            variable("LD_PRELOAD", &self.library),
            variable("CLAVIGER_TOKENS", &self.folder),
        ];
        [ENV.into()]
            .into_iter()
            .chain(environment)
            .chain(server)
            .collect()
    }
}

fn variable(name: &str, value: &Path) -> OsString {
    let mut variable = OsString::from(name);
    variable.push("=");
    variable.push(value);
    variable
}
