//! Kinds of login errors of PostgreSQL, and of poolers in front of it.

use super::connect::{ConnectError, ConnectErrorKind};

impl ConnectErrorKind {
    /// Returns the kind of an error of PostgreSQL, or of a pooler in front of it, by its SQLSTATE,
    /// the server's routine and the message. For pools of any driver.
    ///
    /// The codes are PostgreSQL's, appendix A of its manual.
    ///
    /// ```
    /// use claviger::error::ConnectErrorKind;
    ///
    /// let kind = ConnectErrorKind::from_postgres(Some("28P01"), Some("auth_failed"), "");
    /// assert_eq!(kind, ConnectErrorKind::Rejected);
    /// ```
    pub fn from_postgres(code: Option<&str>, routine: Option<&str>, message: &str) -> Self {
        match code {
            // pg_hba.conf does not allow the connection, with any password.
            Some("28000") if routine == Some("ClientAuthentication") => Self::Misconfigured,
            // Wrong or expired password, rejected by PAM, no such role, or a role that may not log
            // in.
            Some("28P01" | "28000") => Self::Rejected,
            // No room; the role's own limit is 53300, too.
            Some("53300") => Self::Overloaded,
            // Starting up, shutting down, terminated, or idle for too long.
            Some("57P01" | "57P02" | "57P03" | "57P05") => Self::Unreachable,
            // No such database; no right to connect to it.
            Some("3D000" | "42501") => Self::Misconfigured,
            // Protocol violation: poolers report everything with it, so the text decides.
            Some("08P01") => pooler_kind(message),
            _ => Self::Other,
        }
    }
}

impl ConnectError {
    /// Returns the error of a verification on PostgreSQL: a pooler's error without a cause becomes
    /// that of an unreachable server.
    ///
    /// No password has reached the server. After a rejection, the next verification could be as
    /// late as a minute after the server is back.
    #[must_use]
    pub fn into_postgres_verification(self) -> Self {
        if self.message().contains(FAILING_WITHOUT_CAUSE) {
            self.with_kind(ConnectErrorKind::Unreachable)
        } else {
            self
        }
    }

    /// Returns the error of a [probe](crate::pool::Check::Probe) on PostgreSQL. 42501 (no
    /// privilege) and 42704 (no such role) become a rejection, because the role of the connection
    /// may have been dropped.
    #[must_use]
    pub fn into_postgres_probe(self) -> Self {
        match self.code() {
            Some("42501" | "42704") => self.with_kind(ConnectErrorKind::Rejected),
            _ => self,
        }
    }
}

/// PgBouncer's text for a server that rejects it, and up to version 1.18 for one that is down.
const FAILING: &str = "server login has been failing";
const FAILING_WITHOUT_CAUSE: &str = "server login has been failing, try again later";

/// Classifies an error of PgBouncer, or of a pooler derived from it (as in Cloud SQL). Their only
/// code is 08P01.
fn pooler_kind(message: &str) -> ConnectErrorKind {
    let contains_any = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    // Newer versions append the cause ("cached error: connect failed"), so causes are matched
    // first. One may be a rejection.
    if contains_any(&[
        "connect failed",
        "cannot connect to server",
        "DNS lookup failed",
        "query_wait_timeout",
        "pgbouncer is shutting down",
        // PostgreSQL's own, while it starts, stops or recovers.
        "the database system is",
        "server closed",
        "client_login_timeout",
        "terminating connection",
    ]) {
        ConnectErrorKind::Unreachable
    } else if contains_any(&[
        "no more connections allowed",
        "too many clients",
        "too many connections",
        "remaining connection slots",
    ]) {
        ConnectErrorKind::Overloaded
    } else if contains_any(&["no pg_hba.conf entry"])
        || (contains_any(&["no such database", "does not exist"]) && !message.contains("role "))
    {
        ConnectErrorKind::Misconfigured
    } else if contains_any(&[
        "SASL authentication failed",
        "password authentication failed",
        "no such user",
        FAILING,
        "server login failed",
        "auth failed",
    ]) {
        ConnectErrorKind::Rejected
    } else {
        ConnectErrorKind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poolers_error_without_a_cause_keeps_its_source() {
        let error = ConnectError::new(ConnectErrorKind::Rejected, FAILING_WITHOUT_CAUSE)
            .with_code("08P01")
            .with_target("user \"app\"")
            .with_source(std::io::Error::other("the original"));
        let error = error.into_postgres_verification();
        assert_eq!(error.kind(), ConnectErrorKind::Unreachable);
        assert_eq!(
            (error.code(), error.target()),
            (Some("08P01"), Some("user \"app\""))
        );
        assert!(error.cause().is_some());
    }

    #[test]
    fn a_probe_that_may_not_run_or_finds_no_role_is_a_rejection() {
        for (code, kind) in [
            (Some("42501"), ConnectErrorKind::Rejected),
            (Some("42704"), ConnectErrorKind::Rejected),
            (Some("42601"), ConnectErrorKind::Other),
            (None, ConnectErrorKind::Other),
        ] {
            let error = ConnectError::new(ConnectErrorKind::Other, "failed");
            let error = match code {
                Some(code) => error.with_code(code),
                None => error,
            };
            assert_eq!(error.into_postgres_probe().kind(), kind, "{code:?}");
        }
    }

    #[test]
    fn errors_of_a_pooler_are_classified_by_their_text() {
        for (text, kind) in [
            ("SASL authentication failed", ConnectErrorKind::Rejected),
            (
                "password authentication failed for user \"app\"",
                ConnectErrorKind::Rejected,
            ),
            ("no such user: app", ConnectErrorKind::Rejected),
            ("no such user", ConnectErrorKind::Rejected),
            (
                "server login has been failing, try again later (server_login_retry)",
                ConnectErrorKind::Rejected,
            ),
            (
                "server login has been failing, cached error: password authentication failed for \
                 user \"app\" (server_login_retry)",
                ConnectErrorKind::Rejected,
            ),
            (
                "server login has been failing, cached error: role \"app\" does not exist \
                 (server_login_retry)",
                ConnectErrorKind::Rejected,
            ),
            (
                "server login has been failing, cached error: connect failed (server_login_retry)",
                ConnectErrorKind::Unreachable,
            ),
            (
                "server login has been failing, cached error: server DNS lookup failed \
                 (server_login_retry)",
                ConnectErrorKind::Unreachable,
            ),
            (
                "server login has been failing, cached error: sorry, too many clients already \
                 (server_login_retry)",
                ConnectErrorKind::Overloaded,
            ),
            ("query_wait_timeout", ConnectErrorKind::Unreachable),
            (
                "server login has been failing, cached error: FATAL: the database system is \
                 starting up (server_login_retry)",
                ConnectErrorKind::Unreachable,
            ),
            (
                "server login failed: FATAL the database system is shutting down",
                ConnectErrorKind::Unreachable,
            ),
            (
                "the database system is in recovery mode",
                ConnectErrorKind::Unreachable,
            ),
            (
                "server login has been failing, cached error: server closed the connection \
                 unexpectedly",
                ConnectErrorKind::Unreachable,
            ),
            (
                "client_login_timeout (server down)",
                ConnectErrorKind::Unreachable,
            ),
            (
                "server login has been failing, cached error: FATAL: no pg_hba.conf entry for host \
                 \"10.0.0.1\", user \"app\"",
                ConnectErrorKind::Misconfigured,
            ),
            (
                "no more connections allowed (max_client_conn)",
                ConnectErrorKind::Overloaded,
            ),
            ("no such database: orders", ConnectErrorKind::Misconfigured),
            (
                "unsupported startup parameter: extra_float_digits",
                ConnectErrorKind::Other,
            ),
            ("invalid message format", ConnectErrorKind::Other),
        ] {
            assert_eq!(pooler_kind(text), kind, "{text}");
        }
    }
}
