//! A login to PostgreSQL.

use claviger::Credentials;
use claviger_config::{Connection, TlsMode};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::time::timeout;

use super::{LoggedIn, LoginError, LoginFacts, TIMEOUT};
use crate::doctor::pooler::Pooler;
use crate::finding::{Finding, Step};
use crate::place::Place;

/// Logs in once.
///
/// # Errors
/// The server's code and message, or why there was no response.
pub(in crate::doctor) async fn log_in(
    connection: &Connection,
    place: &Place,
    credentials: &Credentials,
) -> Result<LoggedIn, LoginError> {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&place.host)
        .port(place.port)
        .username(credentials.user())
        .password(credentials.expose_password())
        .application_name("claviger doctor")
        .ssl_mode(match connection.tls_mode() {
            TlsMode::Disable => PgSslMode::Disable,
            TlsMode::Require => PgSslMode::Require,
            TlsMode::VerifyCa => PgSslMode::VerifyCa,
            TlsMode::VerifyFull => PgSslMode::VerifyFull,
            _ => PgSslMode::Prefer,
        });
    if let Some(database) = &place.database {
        options = options.database(database);
    }
    if let Some(file) = connection.ca_file() {
        options = options.ssl_root_cert(file);
    }
    if let Some((certificate, key)) = connection.client_certificate() {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    match timeout(TIMEOUT, options.connect()).await {
        Ok(Ok(connection)) => Ok(LoggedIn::Postgres(connection)),
        Ok(Err(error)) => Err(LoginError::of_sqlx(&error)),
        Err(_) => Err(LoginError::TimedOut),
    }
}

/// Quotes a text for a statement.
pub(in crate::doctor) fn quote(text: &str) -> String {
    format!("'{}'", crate::finding::one_line(text).replace('\'', "''"))
}

fn identifier(name: &str) -> String {
    format!(
        "\"{}\"",
        crate::finding::one_line(name).replace('"', "\"\"")
    )
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
            .with_next("check the server's load, and what its authentication calls: PAM, LDAP");
        }
        LoginError::Other(reason) => {
            return Finding::problem(Step::Login, "login_failed", reason)
                .with_next("check the server's log: it ended the connection during the login");
        }
    };
    let problem = |cause| Finding::problem(Step::Login, cause, format!("{code} {message}"));
    let mut code = code;
    if facts.pooler == Some(Pooler::PgBouncer) {
        code = of_database(message).unwrap_or(code);
        if let Some(finding) = by_pgbouncer(facts, problem, code, message) {
            return finding;
        }
    }
    match code {
        "28P01" if facts.is_token => token_not_accepted(facts, problem("not_in_rds_iam")),
        "28P01" => password_rejected(facts, problem("password_rejected")),
        "28000" if message.contains("PAM") => token_rejected(problem("token_rejected")),
        "28000" if message.contains("not permitted to log in") => problem("role_may_not_log_in")
            .with_next("allow the role to log in, or use another role")
            .with_statement(format!("ALTER ROLE {} LOGIN", identifier(facts.user))),
        "28000" if message.contains("no pg_hba.conf entry") && !facts.has_tls => {
            problem("no_hba_entry").with_next(
                "connect with TLS (ssl_mode = \"verify-full\"), or add a line for this host, user \
                 and database to pg_hba.conf",
            )
        }
        "28000" if message.contains("pg_hba.conf") => problem("no_hba_entry")
            .with_next("add a line for this host, user and database to pg_hba.conf, and reload"),
        "28000" if message.contains("certificate") => problem("client_certificate_rejected")
            .with_next(
                "set `client_certificate_file` to a certificate by the server's authority, whose \
                 name is the role's or is mapped to it in pg_ident.conf",
            )
            .with_statement("SELECT * FROM pg_hba_file_rules WHERE options::text ~ 'clientcert'"),
        "28000" => problem("role_rejected")
            .with_next(format!("check that the role {} exists", facts.user))
            .with_statement(role_statement(facts)),
        "3D000" => problem("unknown_database")
            .with_next("set `database` to an existing one, or create it")
            .with_statement("SELECT datname FROM pg_database ORDER BY 1"),
        "42501" => problem("connect_not_granted")
            .with_next("grant the role CONNECT on the database")
            .with_statement(format!(
                "GRANT CONNECT ON DATABASE {} TO {}",
                identifier(facts.database),
                identifier(facts.user)
            )),
        "55000" => problem("database_closed")
            .with_next("the database does not accept connections; allow them")
            .with_statement(format!(
                "ALTER DATABASE {} ALLOW_CONNECTIONS true",
                identifier(facts.database)
            )),
        "53300" => too_many(facts, problem("too_many_connections"), message),
        "57P03" => {
            problem("server_not_ready").with_next("wait until the server has started, or recovered")
        }
        _ => problem("login_failed").with_next("check the server's log for this message"),
    }
}

fn role_statement(facts: &LoginFacts<'_>) -> String {
    format!(
        "SELECT rolname, rolcanlogin, rolvaliduntil FROM pg_roles WHERE rolname = {}",
        quote(facts.user)
    )
}

/// A token where the server expects a password: the role is not one of `rds_iam`.
fn token_not_accepted(facts: &LoginFacts<'_>, problem: Finding) -> Finding {
    problem
        .with_next(format!("the role {} is missing: create it", facts.user))
        .with_next("the role is not in rds_iam: grant it (as a password, a token is rejected)")
        .with_statement(format!(
            "SELECT r.rolname, pg_has_role(r.oid, 'rds_iam', 'MEMBER') FROM pg_roles r WHERE \
             rolname = {}",
            quote(facts.user)
        ))
        .with_statement(format!("GRANT rds_iam TO {}", identifier(facts.user)))
}

fn token_rejected(problem: Finding) -> Finding {
    problem
        .with_next(
            "the identity lacks rds-db:connect on …:dbuser:DbiResourceId/ROLE; the id is that of \
             the instance or cluster (db-…, cluster-…, prx-…), not its name",
        )
        .with_next("the token is for another region, host name or port than the instance's")
        .with_next("the session that signed it is expired, or the clocks differ by 15 min")
        .with_next("IAM authentication is off at the instance")
}

fn password_rejected(facts: &LoginFacts<'_>, problem: Finding) -> Finding {
    problem
        .with_next("the password is not the role's: compare backend and database")
        .with_next(format!("the role {} does not exist", facts.user))
        .with_next("the role's password is expired (VALID UNTIL), or it has none")
        .with_statement(role_statement(facts))
}

fn too_many(facts: &LoginFacts<'_>, problem: Finding, message: &str) -> Finding {
    if message.contains("for role") {
        problem
            .with_next("raise the role's limit, or lower `max_connections` of its pools")
            .with_statement(format!(
                "SELECT rolconnlimit FROM pg_roles WHERE rolname = {}",
                quote(facts.user)
            ))
    } else if message.contains("for database") {
        problem
            .with_next("raise the database's limit, or lower `max_connections` of its pools")
            .with_statement(format!(
                "SELECT datconnlimit FROM pg_database WHERE datname = {}",
                quote(facts.database)
            ))
    } else {
        problem
            .with_next("find who has the connections, and lower `max_connections` of pools")
            .with_statement(
                "SELECT usename, count(*) FROM pg_stat_activity GROUP BY 1 ORDER BY 2 DESC",
            )
    }
}

/// Returns the SQLSTATE of an error by the database, which PgBouncer forwards as 08P01.
fn of_database(message: &str) -> Option<&'static str> {
    let has = |text| message.contains(text);
    if has("database \"") && has("does not exist") {
        Some("3D000")
    } else if has("permission denied for database") {
        Some("42501")
    } else if has("too many connections for") || has("too many clients") {
        Some("53300")
    } else {
        None
    }
}

/// Judges an error by PgBouncer itself. `None` for errors of the database behind it.
///
/// It has one code, 08P01, for most errors; the text tells them apart.
fn by_pgbouncer(
    facts: &LoginFacts<'_>,
    problem: impl Fn(&'static str) -> Finding,
    code: &str,
    message: &str,
) -> Option<Finding> {
    let has = |text| message.contains(text);
    Some(if has("unsupported startup parameter") {
        problem("startup_parameter_rejected")
            .with_next("add the parameter to ignore_startup_parameters of PgBouncer; then RELOAD")
    } else if has("no such database") {
        problem("unknown_database").with_next(
            "add the database to [databases] of PgBouncer, and RELOAD; or correct `database`",
        )
    } else if has("no more connections allowed") {
        problem("too_many_connections")
            .with_next("raise max_client_conn of PgBouncer, or lower `max_connections` of pools")
            .with_statement("SHOW CLIENTS")
    } else if has("SSL required") {
        problem("tls_required").with_next("set ssl_mode = \"verify-full\": PgBouncer requires TLS")
    } else if has("server login")
        || has("server_login")
        // PgBouncer's own text does not name the user.
        || has("password authentication failed for user")
    {
        problem("pgbouncer_login_failed")
            .with_next("PgBouncer cannot log in to the database: correct its password there")
            .with_next("see PgBouncer's log for the database's own message")
    } else if matches!(code, "08P01" | "28P01" | "28000") {
        problem("rejected_by_pgbouncer")
            .with_next(format!(
                "add {} with its password to PgBouncer's auth_file, or set auth_query; then RELOAD",
                facts.user
            ))
            .with_next("compare the password in auth_file with the backend's")
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(code: &str, message: &str, is_token: bool, pooler: Option<Pooler>) -> Finding {
        let facts = LoginFacts {
            user: "app",
            database: "orders",
            is_token,
            has_tls: true,
            pooler,
        };
        let error = LoginError::Server {
            code: code.into(),
            message: message.into(),
        };
        failed_finding(&facts, &error)
    }

    #[test]
    fn each_error_of_the_server_has_its_cause() {
        let password = "password authentication failed for user \"app\"";
        for (code, message, is_token, cause) in [
            ("28P01", password, false, "password_rejected"),
            ("28P01", password, true, "not_in_rds_iam"),
            (
                "28000",
                "PAM authentication failed for user \"app\"",
                true,
                "token_rejected",
            ),
            (
                "28000",
                "role \"app\" is not permitted to log in",
                false,
                "role_may_not_log_in",
            ),
            (
                "28000",
                "no pg_hba.conf entry for host",
                false,
                "no_hba_entry",
            ),
            (
                "28000",
                "certificate authentication failed",
                false,
                "client_certificate_rejected",
            ),
            (
                "28000",
                "role \"app\" does not exist",
                false,
                "role_rejected",
            ),
            (
                "3D000",
                "database \"x\" does not exist",
                false,
                "unknown_database",
            ),
            (
                "42501",
                "permission denied for database",
                false,
                "connect_not_granted",
            ),
            (
                "53300",
                "sorry, too many clients already",
                false,
                "too_many_connections",
            ),
            (
                "57P03",
                "the database system is starting up",
                false,
                "server_not_ready",
            ),
            ("XX000", "internal", false, "login_failed"),
        ] {
            let finding = judge(code, message, is_token, None);
            assert_eq!(finding.cause, Some(cause), "{code} {message}");
            assert!(!finding.next.is_empty() && finding.is_problem());
        }
    }

    #[test]
    fn the_limit_that_is_reached_is_the_one_in_the_statement() {
        let statement = |message| judge("53300", message, false, None).statements[0].clone();
        assert!(statement("too many connections for role \"app\"").contains("rolconnlimit"));
        assert!(statement("too many connections for database \"x\"").contains("datconnlimit"));
        assert!(statement("sorry, too many clients already").contains("pg_stat_activity"));
    }

    #[test]
    fn errors_of_pgbouncer_are_distinguished_by_their_text() {
        let judged = |code, message| judge(code, message, false, Some(Pooler::PgBouncer));
        for (message, cause, next) in [
            (
                "unsupported startup parameter: search_path",
                "startup_parameter_rejected",
                "ignore_startup_parameters",
            ),
            ("no such database: oders", "unknown_database", "[databases]"),
            (
                "no more connections allowed (max_client_conn)",
                "too_many_connections",
                "max_client_conn",
            ),
            ("SSL required", "tls_required", "verify-full"),
            (
                "server login failed: FATAL password",
                "pgbouncer_login_failed",
                "cannot log in to the database",
            ),
            (
                "password authentication failed for user \"app\"",
                "pgbouncer_login_failed",
                "cannot log in to the database",
            ),
            (
                "SASL authentication failed",
                "rejected_by_pgbouncer",
                "auth_file",
            ),
            (
                "database \"oders\" does not exist",
                "unknown_database",
                "create it",
            ),
        ] {
            let finding = judged("08P01", message);
            assert_eq!(finding.cause, Some(cause), "{message}");
            assert!(finding.next[0].contains(next), "{finding:?}");
        }
        let other = judged("3D000", "database \"oders\" does not exist");
        assert!(other.next[0].contains("create it"), "{other:?}");
    }

    #[test]
    fn names_in_statements_are_quoted() {
        assert_eq!(quote("o'hara"), "'o''hara'");
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
    }
}
