//! A login to Redis or Valkey, by `AUTH` over the connection that was examined before.

use std::io;

use claviger::Credentials;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::{LoggedIn, LoginError, LoginFacts, TIMEOUT, quote};
use crate::doctor::network::Stream;
use crate::finding::{Finding, Step};

/// Longest response line that is read.
const LONGEST_LINE: usize = 512;

/// Logs in once, and sends one command.
///
/// # Errors
/// The first word of the server's error and its text, or why there was no response.
pub(in crate::doctor) async fn log_in(
    stream: &mut dyn Stream,
    credentials: &Credentials,
) -> Result<LoggedIn, LoginError> {
    let words = ["AUTH", credentials.user(), credentials.expose_password()];
    for words in [words.as_slice(), &["PING"]] {
        match timeout(TIMEOUT, command(stream, words)).await {
            Ok(Ok(line)) => match line.strip_prefix('-') {
                Some(error) => return Err(of_line(error)),
                None => continue,
            },
            Ok(Err(error)) => return Err(LoginError::Other(error.to_string())),
            Err(_) => return Err(LoginError::TimedOut),
        }
    }
    Ok(LoggedIn::Redis)
}

fn of_line(line: &str) -> LoginError {
    let (code, message) = line.split_once(' ').unwrap_or((line, ""));
    LoginError::Server {
        code: code.to_owned(),
        message: message.to_owned(),
    }
}

async fn command(stream: &mut dyn Stream, words: &[&str]) -> io::Result<String> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend(format!("${}\r\n", word.len()).bytes());
        request.extend(word.bytes());
        request.extend(b"\r\n");
    }
    stream.write_all(&request).await?;
    stream.flush().await?;
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => break,
            _ if line.len() >= LONGEST_LINE => break,
            byte => line.push(byte),
        }
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

/// Judges a failed login.
pub(in crate::doctor) fn failed_finding(facts: &LoginFacts<'_>, error: &LoginError) -> Finding {
    let (code, message) = match error {
        LoginError::Server { code, message } => (code.as_str(), message.as_str()),
        LoginError::TimedOut => {
            return Finding::problem(
                Step::Login,
                "login_timed_out",
                "the server did not respond within 10 s",
            )
            .with_next("check the server's load, and whether it expects TLS (rediss://)");
        }
        LoginError::Other(reason) => {
            return Finding::problem(Step::Login, "login_failed", reason)
                .with_next("check whether the server expects TLS (rediss://), and its log");
        }
    };
    let problem = |cause| Finding::problem(Step::Login, cause, format!("{code} {message}"));
    let user = || format!("ACL GETUSER {}", quote(facts.user));
    match code {
        "WRONGPASS" => problem("password_rejected")
            .with_next("the password is not the user's: compare backend and server")
            .with_next(format!("the user {} does not exist, or is off", facts.user))
            .with_statement(user()),
        "NOPERM" => problem("connect_not_granted")
            .with_next("allow the user the commands of the service")
            .with_statement(user()),
        "ERR" if message.contains("max number of clients") => problem("too_many_connections")
            .with_next("close idle clients, or raise maxclients")
            .with_statement("CLIENT LIST"),
        "ERR" if message.starts_with("unknown command") => problem("auth_unavailable").with_next(
            "the server has no AUTH: enable it (rename-command), or connect to the server itself",
        ),
        "ERR" if message.contains("without any password") => problem("server_without_password")
            .with_next("the server has no password: set one, or create the user"),
        _ => problem("login_failed").with_next("check the server's log for this message"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_cause() {
        for (line, cause) in [
            (
                "WRONGPASS invalid username-password pair",
                "password_rejected",
            ),
            ("NOPERM this user has no permissions", "connect_not_granted"),
            ("ERR max number of clients reached", "too_many_connections"),
            ("ERR unknown command 'AUTH'", "auth_unavailable"),
            ("LOADING", "login_failed"),
        ] {
            let facts = LoginFacts {
                user: "app",
                database: "0",
                is_token: false,
                has_tls: false,
                pooler: None,
            };
            let finding = failed_finding(&facts, &of_line(line));
            assert_eq!(finding.cause, Some(cause), "{line}");
        }
    }
}
