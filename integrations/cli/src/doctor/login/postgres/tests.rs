use super::*;

fn facts(is_token: bool, method: Option<Method>) -> LoginFacts<'static> {
    LoginFacts {
        user: "app",
        database: "orders",
        is_token,
        has_tls: true,
        has_client_certificate: false,
        pooler: None,
        method,
    }
}

fn judge(error: ServerError, is_token: bool, method: Option<Method>) -> Finding {
    failed_finding(&facts(is_token, method), &LoginError::Server(error))
}

fn error(code: &str, routine: &str, message: &str) -> ServerError {
    let routine = Some(routine).filter(|routine| !routine.is_empty());
    ServerError::new(code, message).with_routine(routine.map(str::to_owned))
}

#[test]
fn each_error_of_the_server_has_its_cause() {
    let password = "password authentication failed for user \"app\"";
    for (code, routine, message, is_token, cause) in [
        ("28P01", "auth_failed", password, false, "password_rejected"),
        ("28P01", "auth_failed", password, true, "not_in_rds_iam"),
        (
            "28000",
            "auth_failed",
            "PAM authentication failed for user \"app\"",
            true,
            "token_rejected",
        ),
        (
            "28000",
            "auth_failed",
            "PAM authentication failed for user \"app\"",
            false,
            "role_accepts_only_tokens",
        ),
        (
            "28000",
            "auth_failed",
            "certificate authentication failed for user \"app\"",
            false,
            "client_certificate_rejected",
        ),
        (
            "28000",
            "",
            "role \"app\" is not permitted to log in",
            false,
            "role_may_not_log_in",
        ),
        (
            "28000",
            "ClientAuthentication",
            "no pg_hba.conf entry for host",
            false,
            "no_hba_entry",
        ),
        (
            "28000",
            "InitializeSessionUserId",
            "role \"app\" does not exist",
            false,
            "role_rejected",
        ),
        (
            "3D000",
            "InitPostgres",
            "database \"x\" does not exist",
            false,
            "unknown_database",
        ),
        (
            "42501",
            "CheckMyDatabase",
            "permission denied for database",
            false,
            "connect_not_granted",
        ),
        (
            "53300",
            "InitProcess",
            "sorry, too many clients already",
            false,
            "too_many_connections",
        ),
        (
            "57P03",
            "ProcessStartupPacket",
            "the database system is starting up",
            false,
            "server_not_ready",
        ),
        (
            "57P01",
            "ProcessInterrupts",
            "terminating connection due to administrator command",
            false,
            "server_shuts_down",
        ),
        (
            "42704",
            "find_option",
            "unrecognized configuration parameter \"x\"",
            false,
            "startup_parameter_rejected",
        ),
        ("XX000", "", "internal", false, "login_failed"),
    ] {
        let finding = judge(error(code, routine, message), is_token, None);
        assert_eq!(finding.cause, Some(cause), "{code} {message}");
        assert!(!finding.next.is_empty() && finding.is_problem());
    }
}

#[test]
fn a_message_in_another_language_has_the_same_cause() {
    let hashed = Some(Method::Hashed);
    for (routine, message, is_token, method, cause) in [
        (
            "ClientAuthentication",
            "kein pg_hba.conf-Eintrag für Host »10.0.0.1«, Benutzer »app«",
            false,
            None,
            "no_hba_entry",
        ),
        (
            "ClientAuthentication",
            "Verbindung erfordert ein gültiges Client-Zertifikat",
            false,
            None,
            "client_certificate_rejected",
        ),
        (
            "auth_failed",
            "PAM-Authentifizierung für Benutzer »app« fehlgeschlagen",
            true,
            None,
            "token_rejected",
        ),
        (
            "InitializeSessionUserId",
            "Rolle »app« hat keine Berechtigung zum Einloggen",
            false,
            hashed,
            "role_may_not_log_in",
        ),
        (
            "InitializeSessionUserId",
            "Rolle »app« existiert nicht",
            true,
            Some(Method::Clear),
            "role_rejected",
        ),
    ] {
        let finding = judge(error("28000", routine, message), is_token, method);
        assert_eq!(finding.cause, Some(cause), "{message}");
    }
}

#[test]
fn a_certificate_is_rejected_only_if_it_was_requested_or_sent() {
    let ident = "Ident authentication failed for user \"app\"";
    let ident_in_german = "Ident-Authentifizierung für Benutzer »app« fehlgeschlagen";
    let certificate = "certificate authentication failed for user \"app\"";
    let in_german = "Zertifikatauthentifizierung für Benutzer »app« fehlgeschlagen";
    for (message, has_client_certificate, cause) in [
        (ident, false, "password_not_requested"),
        (ident, true, "password_not_requested"),
        (ident_in_german, true, "password_not_requested"),
        (certificate, false, "client_certificate_rejected"),
        (certificate, true, "client_certificate_rejected"),
        (in_german, true, "client_certificate_rejected"),
    ] {
        let facts = LoginFacts {
            has_client_certificate,
            ..facts(false, None)
        };
        let error = LoginError::Server(error("28000", "auth_failed", message));
        let finding = failed_finding(&facts, &error);
        assert_eq!(finding.cause, Some(cause), "{message}");
    }
}

#[test]
fn the_limit_that_is_reached_is_the_one_in_the_statement() {
    let statement = |routine, message| {
        let finding = judge(error("53300", routine, message), false, None);
        finding.statements[0].clone()
    };
    let of_role = "zu viele Verbindungen von Rolle »app«";
    assert!(statement("InitializeSessionUserId", of_role).contains("rolconnlimit"));
    let of_database = "zu viele Verbindungen für Datenbank »x«";
    assert!(statement("CheckMyDatabase", of_database).contains("datconnlimit"));
    let of_server = "tut mir leid, schon zu viele Verbindungen";
    assert!(statement("InitProcess", of_server).contains("pg_stat_activity"));
    assert!(statement("", "too many connections for role \"app\"").contains("rolconnlimit"));
}

#[test]
fn errors_of_pgbouncer_are_distinguished_by_their_text() {
    let judged = |code, message| {
        let facts = LoginFacts {
            pooler: Some(Pooler::PgBouncer),
            ..facts(false, None)
        };
        failed_finding(&facts, &LoginError::Server(ServerError::new(code, message)))
    };
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
fn an_error_that_rds_proxy_forwards_is_the_database_s() {
    let text = "Request returned an error: database \"x\" does not exist";
    let finding = judge(ServerError::new("XX000", text), true, None);
    assert_eq!(finding.cause, Some("unknown_database"));
}

#[test]
fn names_in_statements_are_quoted() {
    assert_eq!(quote("o'hara"), "'o''hara'");
    assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
}
