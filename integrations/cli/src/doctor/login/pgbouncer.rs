//! Errors of PgBouncer itself. Its texts are in English alone.

use super::LoginFacts;
use crate::finding::{Finding, Step};

/// Returns the SQLSTATE of an error by the database, which PgBouncer forwards as 08P01.
pub(super) fn of_database(message: &str) -> Option<&'static str> {
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

/// Returns the finding for a login that PgBouncer accepted, and then did not complete.
pub(super) fn timed_out() -> Finding {
    cannot_connect(Finding::problem(
        Step::Login,
        "pgbouncer_cannot_connect",
        "PgBouncer did not complete the login within 10 s: it waits for the database",
    ))
}

fn cannot_connect(problem: Finding) -> Finding {
    problem
        .with_next(
            "PgBouncer does not reach the database, or has no free connection to it: check that it \
             runs, and host, port and pool_size in [databases] of PgBouncer",
        )
        .with_statement("SHOW SERVERS")
}

/// Returns the finding for an error by PgBouncer itself. `None` for errors of the database behind
/// it.
///
/// It has one code, 08P01, for most errors; the text distinguishes them.
pub(super) fn finding(
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
    } else if has("connect failed")
        || has("connect timeout")
        || has("cannot connect to server")
        || has("query_wait_timeout")
        || has("server conn crashed")
    {
        cannot_connect(problem("pgbouncer_cannot_connect"))
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
