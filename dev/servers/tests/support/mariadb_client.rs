//! `mariadb` as a client over TCP.

use std::process::{Command, Output, Stdio};

use claviger_servers::MariaDb;

/// Logs in over TCP and selects the user; `extra` are further options.
pub(crate) fn log_in(server: &MariaDb, user: &str, password: &str, extra: &[&str]) -> Output {
    // Removes the host from `USER()`. The name itself may contain an `@`.
    let select_user = "SELECT LEFT(USER(), CHAR_LENGTH(USER()) - LOCATE('@', REVERSE(USER())))";
    client(server, user, password)
        .args(extra)
        .args(["-e", select_user])
        .output()
        .unwrap()
}

pub(crate) fn client(server: &MariaDb, user: &str, password: &str) -> Command {
    let mut client = Command::new(server.client());
    client
        .args([
            "--no-defaults",
            "--batch",
            "--raw",
            "--skip-column-names",
            "--unbuffered",
            "--default-character-set=utf8mb4",
        ])
        .args([
            "--protocol=tcp",
            "--connect-timeout=10",
            "--host",
            server.host(),
            "--port",
            &server.port().to_string(),
        ])
        .arg(format!("--user={user}"))
        .env("MYSQL_PWD", password)
        .stdin(Stdio::null());
    client
}

/// Returns the result, or the error message of a rejected login.
pub(crate) fn login_result(output: &Output) -> Result<String, String> {
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
