//! The parts of a MariaDB installation, which packagers spread over several folders.

use std::path::{Path, PathBuf};

use crate::programs::is_program;

/// The server's program, by which an installation is found.
pub(crate) const SERVER: &str = "mariadbd";

/// Plugins for the audit of logins, the log of errors and PAM. Some distributions package them
/// separately.
pub(crate) const PLUGINS: [&str; 3] = ["server_audit.so", "sql_errlog.so", "auth_pam_v1.so"];

/// The statements that create the system tables, in their order.
const TABLES: [&str; 3] = [
    "mysql_system_tables.sql",
    "mysql_performance_tables.sql",
    "mysql_system_tables_data.sql",
];

/// A complete MariaDB installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installation {
    /// The folder of the server's program.
    pub(crate) folder: PathBuf,
    /// The server's program.
    pub(crate) server: PathBuf,
    /// The client's program.
    pub(crate) client: PathBuf,
    /// The folder of [`PLUGINS`].
    pub(crate) plugins: PathBuf,
    /// The files [`TABLES`].
    pub(crate) tables: Vec<PathBuf>,
}

impl Installation {
    /// Finds the installation whose server is in `folder`, with its own plugins or else those in
    /// `plugins`.
    pub(crate) fn find_in(folder: &Path, plugins: Option<&Path>) -> Option<Self> {
        let (server, client, tables) = programs(folder)?;
        let packaged = [
            "lib/mysql/plugin",
            "lib64/mysql/plugin",
            "lib/mariadb/plugin",
            "lib64/mariadb/plugin",
            "lib/plugin",
        ];
        let own = packaged
            .iter()
            .map(|plugins| folder.join("..").join(plugins));
        let plugins = own
            .chain(plugins.map(Path::to_path_buf))
            .find(|folder| has_plugins(folder))?;
        Some(Self {
            folder: folder.to_owned(),
            server,
            client,
            plugins,
            tables,
        })
    }
}

/// Returns whether the folder contains all the plugins.
pub(crate) fn has_plugins(folder: &Path) -> bool {
    PLUGINS.iter().all(|plugin| folder.join(plugin).is_file())
}

/// Returns whether everything but the plugins exists.
pub(crate) fn has_programs(folder: &Path) -> bool {
    programs(folder).is_some()
}

fn programs(folder: &Path) -> Option<(PathBuf, PathBuf, Vec<PathBuf>)> {
    let server = Some(folder.join(SERVER)).filter(|program| is_program(program))?;
    let client = [".", "../bin"]
        .iter()
        .map(|beside| folder.join(beside).join("mariadb"))
        .find(|program| is_program(program))?;
    let shared = ["../share/mysql", "../share/mariadb", "../share"];
    let tables = shared
        .iter()
        .map(|shared| TABLES.map(|table| folder.join(shared).join(table)))
        .find(|tables| tables.iter().all(|table| table.is_file()))?;
    Some((server, client, tables.to_vec()))
}
