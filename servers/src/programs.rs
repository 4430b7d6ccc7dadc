//! Which servers there are, and where their programs lie on this machine.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A server that tests can need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Server {
    /// PostgreSQL 14 or newer: older ones do not log who was let in.
    PostgreSql,
    /// What a database needs to check tokens: a C compiler for the PAM module. libpam itself
    /// comes with the database.
    Pam,
}

impl Server {
    /// Every server that this crate knows.
    pub const ALL: &'static [Self] = &[Self::PostgreSql, Self::Pam];

    /// The name as its makers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PostgreSql => "PostgreSQL",
            Self::Pam => "a C compiler for the PAM module",
        }
    }

    /// The word by which a test file asks for it: a first line `//! needs: postgresql`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::PostgreSql => "postgresql",
            Self::Pam => "pam",
        }
    }

    /// The packages that hold it on Debian and Ubuntu.
    pub fn debian_packages(self) -> &'static [&'static str] {
        match self {
            Self::PostgreSql => &["postgresql"],
            Self::Pam => &["gcc", "libc6-dev", "libpam0g"],
        }
    }

    /// The one command that installs it on Debian and Ubuntu.
    pub fn install_command(self) -> String {
        format!("sudo apt-get install -y {}", self.debian_packages().join(" "))
    }

    /// The environment variable that names the folder of its programs.
    pub fn variable(self) -> &'static str {
        match self {
            Self::PostgreSql => "CLAVIGER_POSTGRES_BIN",
            Self::Pam => "CLAVIGER_CC_BIN",
        }
    }

    /// The folder of its programs, looked for as [`Programs::from_environment`] says.
    pub fn find(self) -> Option<PathBuf> {
        Programs::from_environment().find(self).ok()
    }

    /// The programs that have to lie side by side, the one to look for first.
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::PostgreSql => &["postgres", "initdb"],
            Self::Pam => &["cc"],
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The folder that holds `postgres` and `initdb`, if this machine has them: short for
/// `Server::PostgreSql.find()`.
pub fn find_postgres() -> Option<PathBuf> {
    Server::PostgreSql.find()
}

/// The places in which programs are looked for.
///
/// They are a value, not the process's environment, so that a test can say what a machine
/// without any server does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    chosen: BTreeMap<Server, PathBuf>,
    path: Vec<PathBuf>,
    packaged: Option<PathBuf>,
}

impl Programs {
    /// Where a user would expect it: the folder in [`Server::variable`], and if that is
    /// unset or empty the PATH, and for PostgreSQL then what `pg_config --bindir` answers,
    /// then the newest version below `/usr/lib/postgresql`.
    pub fn from_environment() -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        let chosen = |&server: &Server| {
            let folder = env::var_os(server.variable()).filter(|folder| !folder.is_empty())?;
            Some((server, PathBuf::from(folder)))
        };
        Self {
            chosen: Server::ALL.iter().filter_map(chosen).collect(),
            // An empty entry means the working directory to a shell; nobody wants the
            // server from there.
            path: env::split_paths(&path).filter(|folder| !folder.as_os_str().is_empty()).collect(),
            packaged: Some(PathBuf::from("/usr/lib/postgresql")),
        }
    }

    /// No place at all: nothing is found.
    pub fn nowhere() -> Self {
        Self::default()
    }

    /// Looks for this server in this folder and nowhere else: who names a folder does not
    /// want the server of another one when there is a slip in the name.
    #[must_use]
    pub fn chosen(mut self, server: Server, folder: impl Into<PathBuf>) -> Self {
        self.chosen.insert(server, folder.into());
        self
    }

    /// Looks in these folders as if they were the PATH.
    #[must_use]
    pub fn path(mut self, folders: impl IntoIterator<Item = PathBuf>) -> Self {
        self.path = folders.into_iter().collect();
        self
    }

    /// Looks for PostgreSQL below this folder in `<version>/bin`, the newest version first.
    #[must_use]
    pub fn packaged(mut self, folder: impl Into<PathBuf>) -> Self {
        self.packaged = Some(folder.into());
        self
    }

    /// The folder that holds the server's programs, absolute and without symbolic links.
    ///
    /// # Errors
    /// [`NotInstalled`], which says how to install it, when no place holds all of them.
    pub fn find(&self, server: Server) -> Result<PathBuf, NotInstalled> {
        let missing = NotInstalled { server, chosen: self.chosen.get(&server).cloned() };
        if let Some(folder) = &missing.chosen {
            return whole(folder, server).ok_or(missing);
        }
        let packaged =
            || if server == Server::PostgreSql { self.by_pg_config(server).or_else(|| self.newest_packaged(server)) } else { None };
        self.in_path(server).or_else(packaged).ok_or(missing)
    }

    fn in_path(&self, server: Server) -> Option<PathBuf> {
        let first = server.programs().first()?;
        self.path.iter().find_map(|folder| {
            // A link in /usr/local/bin leads to the folder in which the rest lies.
            let program = fs::canonicalize(folder.join(first)).ok()?;
            whole(program.parent()?, server).or_else(|| whole(folder, server))
        })
    }

    fn by_pg_config(&self, server: Server) -> Option<PathBuf> {
        let program = self.path.iter().map(|folder| folder.join("pg_config")).find(|program| is_program(program))?;
        let output = Command::new(program).arg("--bindir").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        let folder = String::from_utf8(output.stdout).ok()?;
        whole(Path::new(folder.trim()), server)
    }

    fn newest_packaged(&self, server: Server) -> Option<PathBuf> {
        let mut versions: Vec<(Vec<u32>, PathBuf)> = fs::read_dir(self.packaged.as_ref()?)
            .ok()?
            .filter_map(Result::ok)
            .filter_map(|entry| Some((version(entry.file_name().to_str()?)?, entry.path())))
            .collect();
        versions.sort();
        versions.iter().rev().find_map(|(_, folder)| whole(&folder.join("bin"), server))
    }
}

/// A server whose programs are not on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotInstalled {
    server: Server,
    chosen: Option<PathBuf>,
}

impl NotInstalled {
    /// The server that is missing.
    pub fn server(&self) -> Server {
        self.server
    }
}

impl fmt::Display for NotInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(folder) = &self.chosen {
            return write!(
                f,
                "{} is not in {}, the folder that {} names: it has to hold {}",
                self.server,
                folder.display(),
                self.server.variable(),
                self.server.programs().join(" and "),
            );
        }
        write!(
            f,
            "{} is not installed; install it with: {} (or: cargo xtask test, which installs what is missing)",
            self.server,
            self.server.install_command(),
        )
    }
}

impl Error for NotInstalled {}

/// The folder itself, if all of the server's programs are in it.
fn whole(folder: &Path, server: Server) -> Option<PathBuf> {
    server.programs().iter().all(|program| is_program(&folder.join(program))).then(|| fs::canonicalize(folder).ok()).flatten()
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// `9.6` is older than `15`, which an order of strings gets wrong.
fn version(name: &str) -> Option<Vec<u32>> {
    name.split('.').map(|part| part.parse().ok()).collect()
}
