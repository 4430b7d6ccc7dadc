//! A login to PostgreSQL.
//!
//! Its errors are distinguished by SQLSTATE and by the function of the source that reports them:
//! their texts are in the server's language. Text counts only where several errors have both in
//! common, and then a word that no translation changes.

use claviger::Credentials;
use claviger_config::Connection;
use sqlx::ConnectOptions as _;
use tokio::time::timeout;

use super::error::Advice;
use super::{LoggedIn, LoginError, LoginFacts, ServerError, TIMEOUT, pgbouncer, rds_proxy};
use crate::doctor::greeting::Method;
use crate::doctor::pooler::Pooler;
use crate::finding::{Finding, Step};
use crate::place::Place;

const ADVICE: Advice = Advice {
    timed_out: "check the server's load, and what its authentication calls: PAM, LDAP",
    closed: "check the server's log: it ended the connection during the login",
    other: "check the server's log for this login",
};

/// Logs in once, by the driver and with the settings of the pool.
///
/// # Errors
/// The server's code and message, or why there was no response.
pub(super) async fn log_in(
    connection: &Connection,
    place: &Place,
    credentials: &Credentials,
) -> Result<LoggedIn, LoginError> {
    let log_in = async {
        if connection.uses_tokio_postgres() {
            by_tokio_postgres(connection, credentials).await
        } else {
            by_sqlx(connection, place, credentials).await
        }
    };
    match timeout(TIMEOUT, log_in).await {
        Ok(result) => result,
        Err(_) => Err(LoginError::TimedOut),
    }
}

async fn by_sqlx(
    connection: &Connection,
    place: &Place,
    credentials: &Credentials,
) -> Result<LoggedIn, LoginError> {
    let options = connection.postgres_options();
    let mut options = options
        .map_err(|problem| LoginError::Other(problem.message))?
        .host(&place.host)
        .port(place.port)
        .username(credentials.user())
        .password(credentials.expose_password())
        .application_name("claviger doctor");
    if let Some(database) = &place.database {
        options = options.database(database);
    }
    let logged_in = options.connect().await;
    logged_in
        .map(LoggedIn::Postgres)
        .map_err(|error| LoginError::of_sqlx(&error))
}

async fn by_tokio_postgres(
    connection: &Connection,
    credentials: &Credentials,
) -> Result<LoggedIn, LoginError> {
    let connect = connection.tokio_postgres_connect();
    let connect = connect.map_err(|problem| LoginError::Other(problem.message))?;
    let (client, _) = connect
        .connect(credentials)
        .await
        .map_err(|error| of_tokio_postgres(&error))?;
    Ok(LoggedIn::TokioPostgres(client))
}

fn of_tokio_postgres(error: &tokio_postgres::Error) -> LoginError {
    if let Some(error) = error.as_db_error() {
        let routine = error.routine().map(str::to_owned);
        let error = ServerError::new(error.code().code(), error.message());
        return LoginError::Server(error.with_routine(routine));
    }
    let mut text = error.to_string();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(source) = cause {
        if let Some(error) = source.downcast_ref() {
            return LoginError::of_io(error);
        }
        text = source.to_string();
        cause = source.source();
    }
    if error.is_closed() {
        return LoginError::Closed;
    }
    LoginError::Other(text)
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

/// Returns the finding for a failed login.
pub(super) fn failed_finding(facts: &LoginFacts<'_>, error: &LoginError) -> Finding {
    let is_pgbouncer = facts.pooler == Some(Pooler::PgBouncer);
    if is_pgbouncer && *error == LoginError::TimedOut {
        return pgbouncer::timed_out();
    }
    if let LoginError::Other(reason) = error
        && reason.contains("saslprep")
    {
        return password_not_permitted(reason);
    }
    let error = match error.server(&ADVICE) {
        Ok(error) => error,
        Err(finding) => return finding,
    };
    let (own_code, message) = (error.code.as_str(), error.message.as_str());
    let problem = |cause| Finding::problem(Step::Login, cause, format!("{own_code} {message}"));
    let mut code = own_code;
    if is_pgbouncer {
        let of_database = pgbouncer::of_database(message).unwrap_or(code);
        if let Some(finding) = pgbouncer::finding(facts, problem, of_database, message) {
            return finding;
        }
        code = of_database;
    } else if error.routine.is_none() {
        if let Some(finding) = rds_proxy::finding(facts, message) {
            return finding;
        }
        let forwarded = rds_proxy::forwarded(message).and_then(pgbouncer::of_database);
        code = forwarded.unwrap_or(code);
    }
    match code {
        "28P01" if facts.is_token => token_not_accepted(facts, problem("not_in_rds_iam")),
        "28P01" => password_rejected(facts, problem("password_rejected")),
        "28000" => not_authorized(facts, error, problem),
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
        "53300" => too_many(facts, problem("too_many_connections"), error),
        "57P03" => not_ready(problem, message),
        "57P01" | "57P02" => problem("server_shuts_down")
            .with_next("wait for the restart or failover, and see the server's log"),
        "22023" | "42704" | "0A000" if error.routine.is_some() => {
            problem("startup_parameter_rejected")
                .with_next("correct `options` in the URL of the pool, or the role's own settings")
                .with_statement(format!(
                    "SELECT setconfig FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = \
                     s.setrole WHERE rolname = {}",
                    quote(facts.user)
                ))
        }
        _ => problem("login_failed").with_next("check the server's log for this message"),
    }
}

/// Returns the finding for SQLSTATE 57P03: a server that starts, recovers or shuts down, or a
/// standby that is not to accept connections.
fn not_ready(problem: impl Fn(&'static str) -> Finding, message: &str) -> Finding {
    const STANDBY: &str = "set `hot_standby = on` at the standby, or set `host` to the primary";
    // Another one is "not yet accepting": it recovers.
    if message.contains("is not accepting connections") {
        return problem("hot_standby_off").with_next(STANDBY);
    }
    problem("server_not_ready")
        .with_next("wait until the server has started, recovered, or shut down")
        .with_next(format!("if it is a standby that never accepts: {STANDBY}"))
}

/// Returns the finding for SQLSTATE 28000, which has many causes.
fn not_authorized(
    facts: &LoginFacts<'_>,
    error: &ServerError,
    problem: impl Fn(&'static str) -> Finding,
) -> Finding {
    let has = |text| error.message.contains(text);
    let no_entry = || {
        let finding = problem("no_hba_entry");
        if facts.has_tls {
            finding
        } else {
            finding.with_next("connect with TLS (ssl_mode = \"verify-full\")")
        }
        .with_next(
            "add a line for this host, user and database to pg_hba.conf, before any that rejects \
             it, and reload",
        )
        .with_statement("SELECT * FROM pg_hba_file_rules ORDER BY line_number")
    };
    let no_certificate = || {
        problem("client_certificate_rejected")
            .with_next(
                "set `client_certificate_file` to a certificate that the server's CA has signed, \
                 whose name is the role's or is mapped to it in pg_ident.conf",
            )
            .with_statement("SELECT * FROM pg_hba_file_rules WHERE options::text ~ 'clientcert'")
    };
    let may_not_log_in = || {
        problem("role_may_not_log_in")
            .with_next("allow the role to log in, or use another role")
            .with_statement(format!("ALTER ROLE {} LOGIN", identifier(facts.user)))
    };
    let role = || {
        problem("role_rejected")
            .with_next(format!(
                "check that the role {} exists, and may log in",
                facts.user
            ))
            .with_statement(role_statement(facts))
    };
    match error.routine.as_deref() {
        // The lines of pg_hba.conf, or their option `clientcert`.
        Some("ClientAuthentication") if has("pg_hba.conf") => no_entry(),
        Some("ClientAuthentication") => no_certificate(),
        Some("auth_failed") if has("PAM") => token_rejected(facts, problem),
        Some("auth_failed") if has("LDAP") || has("RADIUS") || has("BSD") => {
            password_rejected(facts, problem("password_rejected"))
        }
        Some("auth_failed") if has("GSSAPI") || has("SSPI") => problem("password_not_requested")
            .with_next("the entry of pg_hba.conf for this user requires Kerberos: change it"),
        Some("auth_failed") if has("certificate") => no_certificate(),
        // Translations keep the name of `ident`, and not that of `cert`.
        Some("auth_failed") if facts.has_client_certificate && !has("dent") => no_certificate(),
        // `peer` and `ident` compare the name of the operating system's user.
        Some("auth_failed") => problem("password_not_requested").with_next(
            "the entry of pg_hba.conf for this user is `peer`, `ident` or `cert`: make it \
             scram-sha-256, or map the system's user in pg_ident.conf",
        ),
        // A role that is missing has no password to verify before.
        Some("InitializeSessionUserId") if facts.method == Some(Method::Hashed) => may_not_log_in(),
        _ if has("not permitted to log in") => may_not_log_in(),
        Some("InitializeSessionUserId") => role(),
        _ if has("PAM") => token_rejected(facts, problem),
        _ if has("pg_hba.conf") => no_entry(),
        _ if has("certificate") => no_certificate(),
        _ => role(),
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
            "SELECT r.rolname, m.roleid::regrole AS member_of FROM pg_roles r LEFT JOIN \
             pg_auth_members m ON m.member = r.oid WHERE r.rolname = {}",
            quote(facts.user)
        ))
        .with_statement(format!("GRANT rds_iam TO {}", identifier(facts.user)))
}

/// PAM rejects: a token, or a password where the role accepts tokens alone.
fn token_rejected(facts: &LoginFacts<'_>, problem: impl Fn(&'static str) -> Finding) -> Finding {
    if !facts.is_token {
        return problem("role_accepts_only_tokens")
            .with_next(
                "on RDS, PAM verifies the tokens of roles in rds_iam: set `aws_iam_auth = true`, \
                 or revoke the membership",
            )
            .with_next("elsewhere, compare the password with that of PAM's service")
            .with_statement(format!("REVOKE rds_iam FROM {}", identifier(facts.user)));
    }
    problem("token_rejected")
        .with_next(
            "the identity lacks rds-db:connect on …:dbuser:DbiResourceId/ROLE; the id is that of \
             the instance or cluster (db-…, cluster-…, prx-…), not its name",
        )
        .with_next("the token is for another region, host name or port than the instance's")
        .with_next("the session that signed it is expired, or the clocks differ by 15 min")
        .with_next("IAM authentication is off at the instance")
}

/// The driver may not send the password: SCRAM permits no control characters in it.
fn password_not_permitted(reason: &str) -> Finding {
    Finding::problem(Step::Login, "password_not_permitted", reason)
        .with_next(
            "the password of the backend has a line break or another control character: remove \
             it there, with the newline at the end of a file if there are two",
        )
        .with_next("if the role's password has it, set one without")
}

fn password_rejected(facts: &LoginFacts<'_>, problem: Finding) -> Finding {
    problem
        .with_next("the password is not the role's: compare backend and database")
        .with_next(format!("the role {} does not exist", facts.user))
        .with_next("the role's password is expired (VALID UNTIL), or it has none")
        .with_statement(role_statement(facts))
}

fn too_many(facts: &LoginFacts<'_>, problem: Finding, error: &ServerError) -> Finding {
    let has = |text| error.message.contains(text);
    match error.routine.as_deref() {
        Some("InitializeSessionUserId") => too_many_of_role(facts, problem),
        Some("CheckMyDatabase") => too_many_of_database(facts, problem),
        // Forwarded by a pooler, without the routine.
        None if has("for role") => too_many_of_role(facts, problem),
        None if has("for database") => too_many_of_database(facts, problem),
        _ => problem
            .with_next("find who has the connections, and lower `max_connections` of pools")
            .with_statement(
                "SELECT usename, count(*) FROM pg_stat_activity GROUP BY 1 ORDER BY 2 DESC",
            ),
    }
}

fn too_many_of_role(facts: &LoginFacts<'_>, problem: Finding) -> Finding {
    problem
        .with_next("raise the role's limit, or lower `max_connections` of its pools")
        .with_statement(format!(
            "SELECT rolconnlimit FROM pg_roles WHERE rolname = {}",
            quote(facts.user)
        ))
}

fn too_many_of_database(facts: &LoginFacts<'_>, problem: Finding) -> Finding {
    problem
        .with_next("raise the database's limit, or lower `max_connections` of its pools")
        .with_statement(format!(
            "SELECT datconnlimit FROM pg_database WHERE datname = {}",
            quote(facts.database)
        ))
}

#[cfg(test)]
mod tests;
