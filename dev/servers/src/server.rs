//! The servers that tests can need.

use std::fmt;
use std::path::PathBuf;

use crate::chromium;
use crate::jaeger::program as jaeger;
use crate::mariadb::installation::SERVER;
use crate::openbao::program;
use crate::programs::Programs;

/// A server that tests can need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Server {
    /// PostgreSQL 14 or newer; older ones do not log accepted logins.
    PostgreSql,
    /// MariaDB 10.6 or newer, its client, and the plugins for the audit of logins, the log of
    /// errors and PAM.
    MariaDb,
    /// A C compiler for the PAM module, with which databases verify tokens. The database's package
    /// includes libpam.
    Pam,
    /// moto, which emulates AWS, and boto3, AWS's client: two Python packages.
    Moto,
    /// OpenBao, or a HashiCorp Vault that the user names.
    OpenBao,
    /// PgBouncer, a connection pooler in front of PostgreSQL.
    PgBouncer,
    /// Prometheus, with its `promtool`.
    Prometheus,
    /// Jaeger 1, which keeps traces.
    Jaeger,
    /// Redis 7.0 or newer; older ones have no port of a cluster's bus.
    Redis,
    /// Chromium, a browser without windows.
    Chromium,
}

impl Server {
    /// All servers of this crate.
    pub const ALL: &'static [Self] = &[
        Self::PostgreSql,
        Self::MariaDb,
        Self::Pam,
        Self::Moto,
        Self::OpenBao,
        Self::PgBouncer,
        Self::Prometheus,
        Self::Jaeger,
        Self::Redis,
        Self::Chromium,
    ];

    /// Returns the project's name.
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
            Self::Redis => "Redis",
            Self::Chromium => "Chromium",
        }
    }

    /// Returns the tag in a test file's first line, `//! needs: postgresql`.
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
            Self::Redis => "redis",
            Self::Chromium => "chromium",
        }
    }

    /// Returns its Debian and Ubuntu packages, or those that its installation needs.
    pub fn debian_packages(self) -> &'static [&'static str] {
        match self {
            Self::PostgreSql => &["postgresql"],
            // These packages contain no service.
            Self::MariaDb => &["mariadb-server-core", "mariadb-client-core"],
            Self::Pam => &["gcc", "libc6-dev", "libpam0g"],
            // For Jaeger without Go, which then comes as a Python package.
            Self::Moto | Self::OpenBao | Self::Jaeger => &["python3-venv"],
            Self::PgBouncer => &["pgbouncer"],
            Self::Prometheus => &["prometheus"],
            Self::Redis => &["redis"],
            // Without windows: 60 MB less than the package `chromium`.
            Self::Chromium => &["chromium-headless-shell"],
        }
    }

    /// Returns the command that installs it on Debian and Ubuntu.
    pub fn install_command(self) -> String {
        match self {
            Self::PostgreSql | Self::Pam | Self::Chromium => format!(
                "sudo apt-get install -y {}",
                self.debian_packages().join(" ")
            ),
            // The rest goes to the tools folder: Python packages, and the plugins from a Debian
            // package that would start a service.
            Self::MariaDb | Self::Moto | Self::OpenBao | Self::Jaeger => {
                format!(
                    "sudo apt-get install -y {} && cargo xtask install {}",
                    self.debian_packages().join(" "),
                    self.tag()
                )
            }
            // Debian's package would start a service; its programs are extracted, which needs no
            // privileges.
            Self::PgBouncer | Self::Prometheus | Self::Redis => {
                format!("cargo xtask install {}", self.tag())
            }
        }
    }

    /// Returns the environment variable that names the folder of its programs. For moto it names a
    /// Python program with the packages `moto[server]` and `boto3`. For OpenBao, Jaeger and
    /// Chromium it names the program (`bao` or `vault`, `jaeger-all-in-one`, the browser) or its
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
            Self::Redis => "CLAVIGER_REDIS_BIN",
            Self::Chromium => "CLAVIGER_CHROMIUM_BIN",
        }
    }

    /// Returns the result of [`Programs::find`] in the places of [`Programs::from_environment`].
    pub fn find(self) -> Option<PathBuf> {
        Programs::from_environment().find(self).ok()
    }

    /// Describes the required content of a place that the user has chosen.
    pub(crate) fn requirement(self) -> String {
        match self {
            Self::PostgreSql | Self::Pam | Self::PgBouncer | Self::Prometheus | Self::Redis => {
                format!(
                    "it has to be a folder that contains {}",
                    self.programs().join(" and ")
                )
            }
            Self::MariaDb => {
                format!(
                    "it has to be the folder of {SERVER}, with mariadb in the same or in ../bin, \
                     and the rest in ../share and ../lib"
                )
            }
            Self::Moto => "it has to be a python3 that has moto[server] and boto3".to_owned(),
            Self::OpenBao | Self::Jaeger | Self::Chromium => format!(
                "it has to be the program {}, or its folder",
                self.programs().join(" or ")
            ),
        }
    }

    /// Returns the programs that must be in one folder, beginning with the one to look for.
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
            Self::Redis => &["redis-server"],
            Self::Chromium => &chromium::NAMES,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
