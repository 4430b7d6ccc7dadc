//! The server's command line, and the statements that create its data.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::installation::Installation;
use crate::ports::HOST;
use crate::tls::{CERTIFICATE_FILE, KEY_FILE};

/// The names of the files in the server's folder.
pub(super) const SOCKET: &str = "mariadb.sock";
pub(super) const LOGINS: &str = "logins.log";
pub(super) const ERRORS: &str = "errors.log";

/// The options of a server in this folder, without the port.
#[derive(Clone, Debug)]
pub(super) struct Config {
    folder: PathBuf,
    options: Vec<OsString>,
}

impl Config {
    /// Creates the options; `own` settings override the defaults.
    pub(super) fn new(
        folder: &Path,
        plugins: &Path,
        tls: bool,
        tokens: bool,
        own: &[(String, String)],
    ) -> Self {
        let mut config = Self {
            folder: folder.to_owned(),
            options: data_options(folder),
        };
        for (name, file) in [
            ("plugin-dir", plugins),
            ("socket", &folder.join(SOCKET)),
            ("pid-file", &folder.join("pid")),
        ] {
            config.options.push(option(name, file));
        }
        for (name, value) in [
            ("bind-address", HOST),
            ("max-connections", "200"),
            // Few files are open at once in a container.
            ("table-open-cache", "200"),
            ("character-set-server", "utf8mb4"),
            ("collation-server", "utf8mb4_general_ci"),
            ("default-time-zone", "+00:00"),
            // The logs that `MariaDbLog` reads. They are never rotated.
            ("plugin-load-add", "sql_errlog"),
            ("sql-error-log-warnings", "OFF"),
            ("sql-error-log-size-limit", "9223372036854775807"),
            ("plugin-load-add", "server_audit"),
            ("server-audit-logging", "ON"),
            ("server-audit-events", "CONNECT"),
            ("server-audit-file-rotate-size", "9223372036854775807"),
        ] {
            config.options.push(option(name, Path::new(value)));
        }
        for (name, file) in [
            ("sql-error-log-filename", ERRORS),
            ("server-audit-file-path", LOGINS),
        ] {
            config.options.push(option(name, &folder.join(file)));
        }
        if tls {
            for (name, file) in [("ssl-cert", CERTIFICATE_FILE), ("ssl-key", KEY_FILE)] {
                config.options.push(option(name, &folder.join(file)));
            }
        }
        if tokens {
            for (name, value) in [
                ("plugin-load-add", "auth_pam_v1"),
                ("pam-use-cleartext-plugin", "ON"),
            ] {
                config.options.push(option(name, Path::new(value)));
            }
        }
        config.options.extend(
            own.iter()
                .map(|(name, value)| option(name, Path::new(value))),
        );
        config
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the command line of the server on this port.
    pub(super) fn serve(&self, installation: &Installation, port: u16) -> Vec<OsString> {
        let mut command = vec![installation.server.clone().into_os_string()];
        command.extend_from_slice(&self.options);
        command.push(option("port", Path::new(&port.to_string())));
        command
    }
}

/// Returns the command line that creates the data by the statements in this file.
pub(super) fn create(
    installation: &Installation,
    folder: &Path,
    statements: &Path,
) -> Vec<OsString> {
    let mut command: Vec<OsString> = [
        "/bin/sh",
        "-c",
        "file=$1; shift; exec \"$@\" <\"$file\"",
        "sh",
    ]
    .map(OsString::from)
    .to_vec();
    command.extend([
        statements.as_os_str().to_owned(),
        installation.server.clone().into_os_string(),
    ]);
    command.extend(data_options(folder));
    command.push("--bootstrap".into());
    command
}

/// Returns the options of both the server and the creation of its data.
fn data_options(folder: &Path) -> Vec<OsString> {
    let mut options: Vec<OsString> = vec![
        "--no-defaults".into(),
        option("datadir", &folder.join("data")),
        option("tmpdir", folder),
    ];
    for (name, value) in [
        ("innodb-buffer-pool-size", "16M"),
        ("innodb-log-file-size", "4M"),
        ("innodb-data-file-path", "ibdata1:1M:autoextend"),
        ("innodb-autoextend-increment", "1"),
        // The data need not survive a power failure, but a crash of the server. Each commit is
        // passed to the operating system, and no further.
        ("innodb-flush-method", "nosync"),
        ("innodb-flush-log-at-trx-commit", "2"),
        // Some kernels limit it too much in containers.
        ("innodb-use-native-aio", "OFF"),
        ("performance-schema", "OFF"),
        ("skip-name-resolve", "ON"),
    ] {
        options.push(option(name, Path::new(value)));
    }
    options
}

fn option(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from("--");
    option.push(name);
    option.push("=");
    option.push(value);
    option
}

/// Returns the statements that create the system tables and the superuser.
pub(super) fn statements(installation: &Installation) -> io::Result<String> {
    let mut statements = String::from("CREATE DATABASE mysql;\nUSE mysql;\n");
    for file in &installation.tables {
        let read = fs::read_to_string(file).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", file.display()))
        })?;
        // Writing to a string cannot fail.
        let _ = writeln!(statements, "{read}");
    }
    statements.push_str(ACCOUNTS);
    Ok(statements)
}

/// Keeps only the superuser's account over the socket. An account with which nobody can log in
/// remains: without any for a client's host, the server would reject clients (1130) before it
/// checks the user.
const ACCOUNTS: &str = r#"
DELETE FROM global_priv WHERE User = '' OR (User = 'root' AND Host <> 'localhost');
DELETE FROM proxies_priv WHERE Host <> 'localhost';
INSERT INTO global_priv VALUES ('%', 'bystander', '{"access":0,"plugin":"mysql_native_password","authentication_string":"invalid","account_locked":true}');
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_settings_come_last() {
        let config = Config::new(
            Path::new("/tmp/claviger-x"),
            Path::new("/p"),
            true,
            true,
            &[("max-connections".into(), "7 8".into())],
        );
        assert_eq!(
            config.options.first().and_then(|first| first.to_str()),
            Some("--no-defaults")
        );
        assert_eq!(
            config.options.last().and_then(|last| last.to_str()),
            Some("--max-connections=7 8")
        );
        assert!(
            config
                .options
                .contains(&OsString::from("--datadir=/tmp/claviger-x/data"))
        );
    }
}
