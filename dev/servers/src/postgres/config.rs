//! The contents of `postgresql.conf` and `pg_hba.conf`.

use std::path::Path;

use super::{HOST, SUPERUSER};
use crate::tls::{CERTIFICATE_FILE, KEY_FILE};
use crate::tokens::{ROLE, SERVICE};

/// Returns the lines added to `initdb`'s `postgresql.conf`; of two equal names the later line
/// counts.
pub(super) fn settings(folder: &Path, tls: bool, own: &[(String, String)]) -> String {
    // The value is a list of folders, which needs quotes of its own.
    let socket = format!("\"{}\"", folder.to_string_lossy().replace('"', "\"\""));
    let mut lines = String::from("\n# claviger\n");
    for (name, value) in [
        ("listen_addresses", HOST),
        ("unix_socket_directories", &socket),
        ("max_connections", "200"),
        ("shared_buffers", "16MB"),
        ("password_encryption", "scram-sha-256"),
        // The data need not survive a power failure, but a crash of the server. Therefore
        // `synchronous_commit` stays on: without it the last commits are lost.
        ("fsync", "off"),
        ("full_page_writes", "off"),
        // In the data folder, because /dev/shm would keep the segments of a killed server.
        ("dynamic_shared_memory_type", "mmap"),
        // The lines that `PostgresLog` reads.
        ("log_destination", "stderr"),
        ("logging_collector", "off"),
        ("log_connections", "on"),
        ("log_disconnections", "on"),
        ("log_line_prefix", "%m [%p] "),
        ("log_timezone", "UTC"),
        ("lc_messages", "C"),
        ("timezone", "UTC"),
    ] {
        lines.push_str(&setting(name, value));
    }
    if tls {
        lines.push_str(&setting("ssl", "on"));
        for (name, file) in [
            ("ssl_cert_file", CERTIFICATE_FILE),
            ("ssl_key_file", KEY_FILE),
        ] {
            lines.push_str(&setting(name, &folder.join(file).to_string_lossy()));
        }
    }
    for (name, value) in own {
        lines.push_str(&setting(name, value));
    }
    lines
}

fn setting(name: &str, value: &str) -> String {
    let value = value
        .replace('\\', r"\\")
        .replace('\'', "''")
        .replace('\n', r"\n");
    format!("{name} = '{value}'\n")
}

/// Returns `pg_hba.conf`; the first line that matches a client counts.
pub(super) fn access(own: &[String], tls: bool, tokens: bool) -> String {
    let mut lines = format!("local all {SUPERUSER} trust\n");
    for line in own {
        lines.push_str(line);
        lines.push('\n');
    }
    if tokens {
        // As on RDS: a role with tokens can log in neither without TLS nor with a password.
        lines.push_str(&format!(
            "hostssl all +{ROLE} {HOST}/32 pam pamservice={SERVICE}\n"
        ));
        lines.push_str(&format!("host all +{ROLE} {HOST}/32 reject\n"));
    }
    lines.push_str("local all all scram-sha-256\n");
    if tls {
        lines.push_str(&format!("hostssl all all {HOST}/32 scram-sha-256\n"));
    }
    lines.push_str(&format!("host all all {HOST}/32 scram-sha-256\n"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_postgresql_reads_them() {
        assert_eq!(
            setting("a.b", "it's a \\ and\na line"),
            "a.b = 'it''s a \\\\ and\\na line'\n"
        );
    }

    #[test]
    fn own_settings_come_last_and_own_access_lines_first() {
        let settings = settings(
            Path::new("/tmp/claviger-x"),
            false,
            &[("fsync".into(), "on".into())],
        );
        assert!(settings.ends_with("fsync = 'on'\n"));
        assert!(settings.contains("unix_socket_directories = '\"/tmp/claviger-x\"'\n"));
        let access = access(&["host all eve 127.0.0.1/32 reject".into()], true, true);
        let lines: Vec<&str> = access.lines().collect();
        assert_eq!(
            lines,
            [
                "local all postgres trust",
                "host all eve 127.0.0.1/32 reject",
                "hostssl all +rds_iam 127.0.0.1/32 pam pamservice=rds_iam",
                "host all +rds_iam 127.0.0.1/32 reject",
                "local all all scram-sha-256",
                "hostssl all all 127.0.0.1/32 scram-sha-256",
                "host all all 127.0.0.1/32 scram-sha-256",
            ]
        );
    }
}
