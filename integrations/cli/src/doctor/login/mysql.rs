//! A login to MySQL or MariaDB.

use claviger::Credentials;
use claviger_config::{Connection, TlsMode};
use sqlx::ConnectOptions as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use tokio::time::timeout;

use super::{LoggedIn, LoginError, LoginFacts, TIMEOUT, quote};
use crate::finding::{Finding, Step};
use crate::place::Place;

/// Logs in once. A token is sent in clear: the caller has checked that TLS is verified.
///
/// # Errors
/// The server's number and message, or why there was no response.
pub(in crate::doctor) async fn log_in(
    connection: &Connection,
    place: &Place,
    credentials: &Credentials,
) -> Result<LoggedIn, LoginError> {
    let mode = connection.tls_mode();
    let mut options = MySqlConnectOptions::new()
        .host(&place.host)
        .port(place.port)
        .username(credentials.user())
        .password(credentials.expose_password())
        .enable_cleartext_plugin(credentials.is_token())
        .ssl_mode(match mode {
            TlsMode::Disable => MySqlSslMode::Disabled,
            TlsMode::Require => MySqlSslMode::Required,
            TlsMode::VerifyCa => MySqlSslMode::VerifyCa,
            TlsMode::VerifyFull => MySqlSslMode::VerifyIdentity,
            _ => MySqlSslMode::Preferred,
        });
    if let Some(database) = &place.database {
        options = options.database(database);
    }
    if let Some(file) = connection.ca_file() {
        options = options.ssl_ca(file);
    }
    if let Some((certificate, key)) = connection.client_certificate() {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    match timeout(TIMEOUT, options.connect()).await {
        Ok(Ok(connection)) => Ok(LoggedIn::MySql(connection)),
        Ok(Err(error)) => Err(of_sqlx(&error)),
        Err(_) => Err(LoginError::TimedOut),
    }
}

/// Returns the number of the error: its SQLSTATE alone is less precise.
fn of_sqlx(error: &sqlx::Error) -> LoginError {
    let number = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>())
        .map(|error| error.number().to_string());
    match (LoginError::of_sqlx(error), number) {
        (LoginError::Server { message, .. }, Some(code)) => LoginError::Server { code, message },
        (error, _) => error,
    }
}

/// Judges a failed login.
pub(in crate::doctor) fn failed_finding(facts: &LoginFacts<'_>, error: &LoginError) -> Finding {
    let (code, message) = match error {
        LoginError::Server { code, message } => (code.as_str(), message.as_str()),
        LoginError::TimedOut => {
            return Finding::problem(
                Step::Login,
                "login_timed_out",
                "the server did not complete the login within 10 s",
            )
            .with_next("check the server's load");
        }
        LoginError::Other(reason) => {
            return Finding::problem(Step::Login, "login_failed", reason)
                .with_next("check the server's log, and the account's plug-in");
        }
    };
    let problem = |cause| Finding::problem(Step::Login, cause, format!("{code} {message}"));
    let account = || {
        format!(
            "SELECT user, host, plugin FROM mysql.user WHERE user = {}",
            quote(facts.user)
        )
    };
    match code {
        "1045" if facts.is_token => problem("token_rejected")
            .with_next("the account is missing, or not IDENTIFIED WITH AWSAuthenticationPlugin")
            .with_next("the identity lacks rds-db:connect for this account")
            .with_next("the token is for another region or host, or the clocks differ by 15 min")
            .with_statement(account()),
        "1045" => problem("password_rejected")
            .with_next("the password is not the account's: compare backend and database")
            .with_next(format!(
                "no account {} for this machine's address exists, or it requires TLS",
                facts.user
            ))
            .with_statement(account()),
        "1049" => problem("unknown_database")
            .with_next("set `database` to an existing one, or create it")
            .with_statement("SHOW DATABASES"),
        "1044" => problem("connect_not_granted")
            .with_next("grant the account privileges on the database")
            .with_statement(format!("SHOW GRANTS FOR {}", quote(facts.user))),
        "1040" | "1203" | "1226" => problem("too_many_connections")
            .with_next("find who has the connections, and lower `max_connections` of pools")
            .with_statement("SELECT user, count(*) FROM information_schema.processlist GROUP BY 1"),
        "4151" | "3118" => problem("role_may_not_log_in")
            .with_next("unlock the account")
            .with_statement(format!("ALTER USER {} ACCOUNT UNLOCK", quote(facts.user))),
        "1129" | "1130" => problem("host_not_allowed")
            .with_next("create the account for this machine's address, or FLUSH HOSTS"),
        _ => problem("login_failed").with_next("check the server's log for this message"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_its_cause() {
        for (code, is_token, cause) in [
            ("1045", false, "password_rejected"),
            ("1045", true, "token_rejected"),
            ("1049", false, "unknown_database"),
            ("1044", false, "connect_not_granted"),
            ("1040", false, "too_many_connections"),
            ("4151", false, "role_may_not_log_in"),
            ("2000", false, "login_failed"),
        ] {
            let facts = LoginFacts {
                user: "app",
                database: "orders",
                is_token,
                has_tls: true,
                pooler: None,
            };
            let error = LoginError::Server {
                code: code.into(),
                message: "text".into(),
            };
            let finding = failed_finding(&facts, &error);
            assert_eq!(finding.cause, Some(cause), "{code}");
            assert!(!finding.next.is_empty() && finding.is_problem());
        }
    }
}
