//! A login to MySQL or MariaDB. Its errors are distinguished by their numbers.

use claviger::Credentials;
use claviger_config::Connection;
use sqlx::ConnectOptions as _;
use tokio::time::timeout;

use super::error::Advice;
use super::{LoggedIn, LoginError, LoginFacts, ServerError, TIMEOUT, quote, rds_proxy};
use crate::finding::{Finding, Step};
use crate::place::Place;

const ADVICE: Advice = Advice {
    timed_out: "check the server's load",
    closed: "check the server's log, and whether the account requires TLS",
    other: "check the server's log, and the account's authentication plugin",
};

/// Logs in once, with the settings of the pool. A token is sent in clear: the caller has checked
/// that TLS is verified.
///
/// # Errors
/// The server's number and message, or why there was no response.
pub(super) async fn log_in(
    connection: &Connection,
    place: &Place,
    credentials: &Credentials,
) -> Result<LoggedIn, LoginError> {
    let options = connection.mysql_options();
    let mut options = options
        .map_err(|problem| LoginError::Other(problem.message))?
        .host(&place.host)
        .port(place.port)
        .username(credentials.user())
        .password(credentials.expose_password())
        .enable_cleartext_plugin(credentials.is_token());
    if let Some(database) = &place.database {
        options = options.database(database);
    }
    match timeout(TIMEOUT, options.connect()).await {
        Ok(Ok(connection)) => Ok(LoggedIn::MySql(connection)),
        Ok(Err(error)) => Err(of_sqlx(&error)),
        Err(_) => Err(LoginError::TimedOut),
    }
}

/// Returns the number of the error: its SQLSTATE alone is less precise.
fn of_sqlx(error: &sqlx::Error) -> LoginError {
    match number(error) {
        Some((number, message)) => LoginError::Server(ServerError::new(number, message)),
        None => LoginError::of_sqlx(error),
    }
}

fn number(error: &sqlx::Error) -> Option<(String, String)> {
    let error = error.as_database_error()?;
    let number = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()?;
    Some((number.number().to_string(), error.message().to_owned()))
}

/// Returns a statement that lists the accounts of a name: one for each host it may connect from.
fn accounts(facts: &LoginFacts<'_>) -> String {
    format!(
        "SELECT user, host, plugin, ssl_type FROM mysql.user WHERE user = {}",
        quote(facts.user)
    )
}

/// Returns a statement that writes another one for each account of a name. A name alone means the
/// account of the host `%`, which may be another one.
fn for_each_account(facts: &LoginFacts<'_>, before: &str, after: &str) -> String {
    format!(
        "SELECT CONCAT('{before} ', QUOTE(user), '@', QUOTE(host), '{after}') FROM mysql.user \
         WHERE user = {}",
        quote(facts.user)
    )
}

/// Returns the finding for a failed login.
pub(super) fn failed_finding(facts: &LoginFacts<'_>, error: &LoginError) -> Finding {
    if let LoginError::Other(reason) = error
        && reason.contains("authentication plugin")
    {
        return plugin_not_supported(
            facts,
            Finding::problem(Step::Login, PLUGIN_NOT_SUPPORTED, reason),
        );
    }
    let error = match error.server(&ADVICE) {
        Ok(error) => error,
        Err(finding) => return finding,
    };
    let (code, message) = (error.code.as_str(), error.message.as_str());
    if let Some(finding) = rds_proxy::finding(facts, message) {
        return finding;
    }
    let problem = |cause| Finding::problem(Step::Login, cause, format!("{code} {message}"));
    match code {
        "1045" if facts.is_token => problem("token_rejected")
            .with_next("the account is missing, or not IDENTIFIED WITH AWSAuthenticationPlugin")
            .with_next("the identity lacks rds-db:connect for this account")
            .with_next("the token is for another region or host, or the clocks differ by 15 min")
            .with_statement(accounts(facts)),
        "1045" => password_rejected(facts, problem("password_rejected")),
        // The account has no password, or there is none: MariaDB returns the number at random then.
        "1698" => problem("account_rejected")
            .with_next(
                "the account authenticates without a password, as with the plugin unix_socket or \
                 auth_socket: give it a password, or use another account",
            )
            .with_next(no_account(facts))
            .with_statement(accounts(facts)),
        "1049" => problem("unknown_database")
            .with_next("set `database` to an existing one, or create it")
            .with_statement("SHOW DATABASES"),
        "1044" => problem("connect_not_granted")
            .with_next(format!(
                "the account has no privileges on the database {}: grant them",
                facts.database
            ))
            .with_next(
                "or the database does not exist: an account without privileges of its own gets the \
                 same error",
            )
            .with_statement("SHOW DATABASES")
            .with_statement(for_each_account(facts, "SHOW GRANTS FOR", "")),
        "1203" | "1226" => problem("too_many_connections")
            .with_next("raise the account's limit, or lower `max_connections` of its pools")
            .with_statement(format!(
                "SELECT user, host, max_user_connections FROM mysql.user WHERE user = {}",
                quote(facts.user)
            )),
        "1040" => problem("too_many_connections")
            .with_next("find who has the connections, and lower `max_connections` of pools")
            .with_statement("SELECT user, count(*) FROM information_schema.processlist GROUP BY 1"),
        "4151" | "3118" => problem("role_may_not_log_in")
            .with_next("unlock the account")
            .with_statement(for_each_account(facts, "ALTER USER", " ACCOUNT UNLOCK")),
        "1820" | "1862" => password_expired(problem("password_expired")),
        "1129" => problem("host_blocked")
            .with_next(
                "too many connections from this machine were aborted before a login, for \
                 example by the health checks of a load balancer: stop these, then unblock this \
                 host",
            )
            .with_next("or raise max_connect_errors")
            .with_statement("FLUSH HOSTS"),
        "1130" => problem("host_not_allowed")
            .with_next("create the account for this machine's address, or for '%'")
            .with_statement("SELECT user, host FROM mysql.user ORDER BY 1, 2"),
        "3159" => problem("tls_required").with_next("set ssl_mode = \"verify-full\""),
        "1053" => problem("server_shuts_down").with_next("wait for the restart or failover"),
        "1251" | "1275" | "1524" | "2059" => {
            plugin_not_supported(facts, problem(PLUGIN_NOT_SUPPORTED))
        }
        _ => problem("login_failed").with_next("check the server's log for this message"),
    }
}

const PLUGIN_NOT_SUPPORTED: &str = "authentication_not_supported";

fn plugin_not_supported(facts: &LoginFacts<'_>, problem: Finding) -> Finding {
    problem
        .with_next(
            "change the account's authentication plugin to one that the driver supports: \
             mysql_native_password, caching_sha2_password or sha256_password",
        )
        .with_statement(accounts(facts))
}

fn no_account(facts: &LoginFacts<'_>) -> String {
    format!(
        "no account {} for this machine's address exists",
        facts.user
    )
}

/// The number is the same for a wrong password, a missing account, and one that requires TLS or a
/// client certificate.
fn password_rejected(facts: &LoginFacts<'_>, mut problem: Finding) -> Finding {
    if !facts.has_tls {
        problem = problem.with_next(
            "the account requires TLS, which was not used: set ssl_mode = \"verify-full\"",
        );
    }
    problem = problem
        .with_next("the password is not the account's: compare backend and database")
        .with_next(no_account(facts));
    if !facts.has_client_certificate {
        problem = problem.with_next(
            "the account requires a client certificate (ssl_type X509 or SPECIFIED): set \
             `client_certificate_file` and `client_key_file`",
        );
    }
    problem.with_statement(accounts(facts))
}

/// Returns the finding for a statement that failed after a login: MariaDB accepts an expired
/// password, and then rejects each statement.
pub(super) fn unusable_finding(error: &sqlx::Error) -> Option<Finding> {
    let (number, message) = number(error)?;
    let problem = || {
        let detail = format!("the login works, but every statement fails: {number} {message}");
        Finding::problem(Step::Login, "password_expired", detail)
    };
    matches!(number.as_str(), "1820" | "1862").then(|| password_expired(problem()))
}

fn password_expired(problem: Finding) -> Finding {
    problem
        .with_next("set a new password, in the backend as well")
        .with_next("or let it never expire: ALTER USER … PASSWORD EXPIRE NEVER")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(is_token: bool, has_tls: bool) -> LoginFacts<'static> {
        LoginFacts {
            user: "app",
            database: "orders",
            is_token,
            has_tls,
            has_client_certificate: false,
            pooler: None,
            method: None,
        }
    }

    /// No server of the fixtures has a plugin that the driver lacks.
    #[test]
    fn a_plug_in_that_the_driver_lacks_is_a_cause_of_its_own() {
        let error = LoginError::Other("unknown authentication plugin: client_ed25519".into());
        let finding = failed_finding(&facts(false, true), &error);
        assert_eq!(finding.cause, Some("authentication_not_supported"));
        assert!(finding.detail.contains("client_ed25519"), "{finding:?}");
        assert!(finding.next[0].contains("mysql_native_password"));
    }

    #[test]
    fn each_number_has_its_cause() {
        for (code, is_token, cause) in [
            ("1045", false, "password_rejected"),
            ("1045", true, "token_rejected"),
            ("1698", false, "account_rejected"),
            ("1049", false, "unknown_database"),
            ("1044", false, "connect_not_granted"),
            ("1040", false, "too_many_connections"),
            ("1226", false, "too_many_connections"),
            ("4151", false, "role_may_not_log_in"),
            ("1129", false, "host_blocked"),
            ("1130", false, "host_not_allowed"),
            ("1862", false, "password_expired"),
            ("2000", false, "login_failed"),
        ] {
            let error = LoginError::Server(ServerError::new(code, "text"));
            let finding = failed_finding(&facts(is_token, true), &error);
            assert_eq!(finding.cause, Some(cause), "{code}");
            assert!(!finding.next.is_empty() && finding.is_problem());
        }
    }
}
