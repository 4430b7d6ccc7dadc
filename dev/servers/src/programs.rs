//! Finds the programs of servers on this machine.

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::chromium;
use crate::jaeger::program as jaeger;
use crate::mariadb::installation::{self, Installation};
use crate::mariadb::plugins;
use crate::moto::python;
use crate::openbao::program;
use crate::pgbouncer;
use crate::prometheus;
use crate::redis;
use crate::server::Server;
use crate::tools;

/// Returns the folder with `postgres` and `initdb`, if installed: short for
/// `Server::PostgreSql.find()`.
pub fn find_postgres() -> Option<PathBuf> {
    Server::PostgreSql.find()
}

/// The places in which programs are looked for.
///
/// They are a value, not the process's environment, so that tests can check machines without
/// servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Programs {
    chosen: BTreeMap<Server, PathBuf>,
    path: Vec<PathBuf>,
    packaged: Option<PathBuf>,
    daemons: Vec<PathBuf>,
    tools: Option<PathBuf>,
}

impl Programs {
    /// Returns the places on this machine: the one that [`Server::variable`] names; if it is unset
    /// or empty:
    ///
    /// - PostgreSQL: the PATH, the folder from `pg_config --bindir`, then the newest version below
    ///   `/usr/lib/postgresql`;
    /// - MariaDB: the PATH, then the folders of daemons, as `/usr/sbin`; its plugins beside it,
    ///   then in the tools folder;
    /// - moto: the tools folder, then each `python3` in the PATH;
    /// - OpenBao: the tools folder, then `bao` in the PATH;
    /// - Jaeger: the tools folder, then `jaeger-all-in-one` in the PATH;
    /// - PgBouncer: the PATH, the folders of daemons, then the tools folder;
    /// - Prometheus and Redis: the PATH, then the tools folder;
    /// - Chromium: `chromium-headless-shell`, then `chromium`, in the PATH.
    ///
    /// The tools folder is where [`install`](crate::install) puts programs, beside cargo's output.
    pub fn from_environment() -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        let chosen = |&server: &Server| {
            let folder = env::var_os(server.variable()).filter(|folder| !folder.is_empty())?;
            Some((server, PathBuf::from(folder)))
        };
        Self {
            chosen: Server::ALL.iter().filter_map(chosen).collect(),
            // An empty entry, which a shell reads as the working directory, is ignored.
            path: env::split_paths(&path)
                .filter(|folder| !folder.as_os_str().is_empty())
                .collect(),
            packaged: Some(PathBuf::from("/usr/lib/postgresql")),
            daemons: ["/usr/local/sbin", "/usr/sbin", "/usr/libexec"]
                .map(PathBuf::from)
                .to_vec(),
            tools: tools::folder(),
        }
    }

    /// Returns places in which nothing is found.
    pub fn nowhere() -> Self {
        Self::default()
    }

    /// Looks for this server in this place only, as if [`Server::variable`] named it. A mistyped
    /// place is an error, and no other server is taken.
    #[must_use]
    pub fn chosen(mut self, server: Server, place: impl Into<PathBuf>) -> Self {
        self.chosen.insert(server, place.into());
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

    /// Looks in this folder for programs that [`install`](crate::install) created.
    #[must_use]
    pub fn tools(mut self, folder: impl Into<PathBuf>) -> Self {
        self.tools = Some(folder.into());
        self
    }

    /// Returns the folder of the server's programs, absolute and without symbolic links. For moto
    /// it is the Python program with its packages; for OpenBao, Jaeger and Chromium, the
    /// program.
    ///
    /// # Errors
    /// [`NotInstalled`], with the command that installs it, if no place contains all of it.
    pub fn find(&self, server: Server) -> Result<PathBuf, NotInstalled> {
        let found = match (server, self.chosen.get(&server)) {
            (Server::Moto, Some(program)) => python::with_packages(program),
            (Server::Moto, None) => {
                let made = self.tools.as_deref().and_then(python::installed_in);
                made.or_else(|| {
                    self.each_in_path("python3")
                        .find_map(|program| python::with_packages(&program))
                })
            }
            (Server::OpenBao, Some(place)) => chosen_program(place, &program::NAMES),
            (Server::Jaeger, Some(place)) => chosen_program(place, &jaeger::NAMES),
            (Server::Jaeger, None) => {
                let made = self.tools.as_deref().and_then(jaeger::installed_in);
                made.or_else(|| self.first_in_path(&jaeger::NAMES))
            }
            (Server::Chromium, Some(place)) => chosen_program(place, &chromium::NAMES),
            (Server::Chromium, None) => self.first_in_path(&chromium::NAMES),
            // A `vault` in the PATH is taken only if it is named, because its messages differ from
            // those in the tests.
            (Server::OpenBao, None) => self
                .tools
                .as_deref()
                .and_then(program::installed_in)
                .or_else(|| self.each_in_path("bao").next()),
            (server, Some(folder)) => complete_folder(folder, server),
            (Server::MariaDb, _) => self.mariadb().ok().map(|installation| installation.folder),
            (Server::PostgreSql, None) => self
                .in_path(server)
                .or_else(|| self.by_pg_config(server))
                .or_else(|| self.newest_packaged(server)),
            (Server::PgBouncer, None) => {
                let by_daemons = || {
                    self.daemons
                        .iter()
                        .find_map(|folder| complete_folder(folder, server))
                };
                let made = || {
                    complete_folder(
                        &pgbouncer::program::in_tools(self.tools.as_deref()?),
                        server,
                    )
                };
                self.in_path(server).or_else(by_daemons).or_else(made)
            }
            (Server::Prometheus, None) => {
                let made = || {
                    complete_folder(
                        &prometheus::program::in_tools(self.tools.as_deref()?),
                        server,
                    )
                };
                self.in_path(server).or_else(made)
            }
            (Server::Redis, None) => {
                let made =
                    || complete_folder(&redis::program::in_tools(self.tools.as_deref()?), server);
                self.in_path(server).or_else(made)
            }
            (server, None) => self.in_path(server),
        };
        found.ok_or_else(|| self.not_installed(server))
    }

    /// Returns the MariaDB installation in the folder of [`find`](Self::find).
    pub(crate) fn mariadb(&self) -> Result<Installation, NotInstalled> {
        let plugins = self.tools.as_deref().map(plugins::in_tools);
        let found = self
            .folders_of_mariadb()
            .iter()
            .find_map(|folder| Installation::find_in(folder, plugins.as_deref()));
        found.ok_or_else(|| self.not_installed(Server::MariaDb))
    }

    /// Returns whether there is a MariaDB, with or without its plugins.
    pub(crate) fn has_bare_mariadb(&self) -> bool {
        self.folders_of_mariadb()
            .iter()
            .any(|folder| installation::has_programs(folder))
    }

    fn folders_of_mariadb(&self) -> Vec<PathBuf> {
        if let Some(folder) = self.chosen.get(&Server::MariaDb) {
            return fs::canonicalize(folder).into_iter().collect();
        }
        // The server is not a user's program, so the PATH may lack its folder.
        let programs = self.each_in_path(installation::SERVER).chain(
            self.daemons
                .iter()
                .map(|folder| folder.join(installation::SERVER)),
        );
        // A link is resolved, because the other parts are beside its target.
        programs
            .filter_map(|program| Some(fs::canonicalize(program).ok()?.parent()?.to_owned()))
            .collect()
    }

    /// Returns the error that the server is in none of the places.
    pub(crate) fn not_installed(&self, server: Server) -> NotInstalled {
        NotInstalled {
            server,
            chosen: self.chosen.get(&server).cloned(),
        }
    }

    /// Returns every program of this name in the PATH.
    pub(crate) fn each_in_path(&self, name: &str) -> impl Iterator<Item = PathBuf> {
        self.path
            .iter()
            .map(move |folder| folder.join(name))
            .filter(|program| is_program(program))
    }

    /// Returns the first of these programs that is in the PATH.
    fn first_in_path(&self, names: &[&str]) -> Option<PathBuf> {
        names.iter().find_map(|name| self.each_in_path(name).next())
    }

    fn in_path(&self, server: Server) -> Option<PathBuf> {
        let first = server.programs().first()?;
        self.path.iter().find_map(|folder| {
            // A link in /usr/local/bin is resolved, because the other programs are beside its
            // target.
            let program = fs::canonicalize(folder.join(first)).ok()?;
            complete_folder(program.parent()?, server).or_else(|| complete_folder(folder, server))
        })
    }

    fn by_pg_config(&self, server: Server) -> Option<PathBuf> {
        let program = self.each_in_path("pg_config").next()?;
        let output = Command::new(program)
            .arg("--bindir")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let folder = String::from_utf8(output.stdout).ok()?;
        complete_folder(Path::new(folder.trim()), server)
    }

    fn newest_packaged(&self, server: Server) -> Option<PathBuf> {
        let mut versions: Vec<(Vec<u32>, PathBuf)> = fs::read_dir(self.packaged.as_ref()?)
            .ok()?
            .filter_map(Result::ok)
            .filter_map(|entry| Some((parse_version(entry.file_name().to_str()?)?, entry.path())))
            .collect();
        versions.sort();
        versions
            .iter()
            .rev()
            .find_map(|(_, folder)| complete_folder(&folder.join("bin"), server))
    }
}

/// A server whose programs are not on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotInstalled {
    server: Server,
    chosen: Option<PathBuf>,
}

impl NotInstalled {
    /// Returns the missing server.
    pub fn server(&self) -> Server {
        self.server
    }

    /// Returns whether the user has chosen a place.
    pub(crate) fn is_chosen(&self) -> bool {
        self.chosen.is_some()
    }
}

impl fmt::Display for NotInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.chosen {
            return write!(
                f,
                "{} is not at {}, which {} names: {}",
                self.server,
                place.display(),
                self.server.variable(),
                self.server.requirement(),
            );
        }
        write!(
            f,
            "{} is not installed; install it with: {} (or: cargo xtask install {})",
            self.server,
            self.server.install_command(),
            self.server.tag(),
        )
    }
}

impl Error for NotInstalled {}

/// Returns the program at a place that the user has chosen: the program itself, or its folder.
fn chosen_program(place: &Path, names: &[&str]) -> Option<PathBuf> {
    let found = if is_program(place) {
        Some(place.to_owned())
    } else {
        names
            .iter()
            .map(|name| place.join(name))
            .find(|program| is_program(program))
    };
    found.and_then(|program| fs::canonicalize(program).ok())
}

/// Returns the folder if all of the server's programs are in it.
fn complete_folder(folder: &Path, server: Server) -> Option<PathBuf> {
    server
        .programs()
        .iter()
        .all(|program| is_program(&folder.join(program)))
        .then(|| fs::canonicalize(folder).ok())
        .flatten()
}

pub(crate) fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Parses a version, because `9.6` is older than `15` only as numbers.
fn parse_version(name: &str) -> Option<Vec<u32>> {
    name.split('.').map(|part| part.parse().ok()).collect()
}
