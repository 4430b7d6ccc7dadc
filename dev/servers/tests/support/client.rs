//! `psql` as a client over TCP.

use std::process::{Command, Output, Stdio};

use claviger_servers::Postgres;

/// Logs in over TCP and runs `SELECT current_user`; `extra` is appended to libpq's connection
/// string.
pub(crate) fn log_in(server: &Postgres, user: &str, password: &str, extra: &str) -> Output {
    let user = user.replace('\\', r"\\").replace('\'', r"\'");
    psql(server)
        .env("PGPASSWORD", password)
        .arg("-d")
        .arg(format!(
            "host={} port={} user='{user}' dbname=postgres connect_timeout=10 {extra}",
            server.host(),
            server.port(),
        ))
        .args(["-c", "SELECT current_user"])
        .output()
        .unwrap()
}

pub(crate) fn psql(server: &Postgres) -> Command {
    let mut psql = Command::new(server.programs().join("psql"));
    psql.args(["-X", "-q", "-t", "-A"])
        .env("LC_ALL", "C")
        // Hides the user's ~/.pgpass and client certificates.
        .env("HOME", server.socket_dir())
        .stdin(Stdio::null());
    psql
}

/// Returns the result, or the error message of a rejected login.
pub(crate) fn login_result(output: &Output) -> Result<String, String> {
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
