//! Errors of a login.

use std::io;

use rustls::AlertDescription;

use crate::doctor::greeting::{closed_finding, silent_finding};
use crate::doctor::protocol::OtherProtocol;
use crate::doctor::tls;
use crate::finding::{Finding, Step};

/// Error of a login. Its texts are those of the server or driver: they may contain the password,
/// and are printed by [`failed_finding`](super::failed_finding) alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::doctor) enum LoginError {
    Server(ServerError),
    /// There was no response at all in time.
    Silent,
    /// The server, or something before it, closed the connection without a response.
    ClosedAtOnce,
    /// The server responded, and did not complete the login in time.
    TimedOut,
    /// The server responded, and closed the connection during the login.
    Closed,
    /// The server ended TLS after the handshake.
    TlsAlert(AlertDescription),
    /// What responds is no server of the pool's kind.
    OtherProtocol(OtherProtocol),
    /// The driver stopped.
    Other(String),
}

/// An error that the server returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::doctor) struct ServerError {
    /// SQLSTATE, number or first word.
    pub(in crate::doctor) code: String,
    /// Text, in the server's language.
    pub(in crate::doctor) message: String,
    /// Function of PostgreSQL's source that reports the error. Unlike the text, it is the same in
    /// each language. Poolers have none.
    pub(in crate::doctor) routine: Option<String>,
}

impl ServerError {
    pub(in crate::doctor) fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            routine: None,
        }
    }

    pub(in crate::doctor) fn with_routine(mut self, routine: Option<String>) -> Self {
        self.routine = routine;
        self
    }
}

/// What to do if the server gave no reason.
pub(super) struct Advice {
    pub(super) timed_out: &'static str,
    pub(super) closed: &'static str,
    pub(super) other: &'static str,
}

impl LoginError {
    pub(in crate::doctor) fn of_sqlx(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                let routine = error
                    .try_downcast_ref::<sqlx::postgres::PgDatabaseError>()
                    .and_then(sqlx::postgres::PgDatabaseError::routine);
                let code = error.code().unwrap_or_default();
                Self::Server(
                    ServerError::new(code, error.message())
                        .with_routine(routine.map(str::to_owned)),
                )
            }
            sqlx::Error::Io(error) => Self::of_io(error),
            error => Self::Other(error.to_string()),
        }
    }

    pub(in crate::doctor) fn of_io(error: &io::Error) -> Self {
        if let Some(other) = OtherProtocol::of_io(error) {
            return Self::OtherProtocol(other.clone());
        }
        let tls = error.get_ref().and_then(|error| error.downcast_ref());
        match tls {
            Some(rustls::Error::AlertReceived(alert)) => Self::TlsAlert(*alert),
            _ if is_closed(error) => Self::Closed,
            _ => Self::Other(error.to_string()),
        }
    }

    /// Returns the error of a login during which the server sent nothing.
    pub(super) fn without_response(self) -> Self {
        match self {
            Self::TimedOut => Self::Silent,
            Self::Closed => Self::ClosedAtOnce,
            other => other,
        }
    }

    /// Returns whether the error has a text that this program did not write.
    pub(super) fn has_foreign_text(&self) -> bool {
        matches!(
            self,
            Self::Server(_) | Self::OtherProtocol(_) | Self::Other(_)
        )
    }

    /// Returns the server's error. Without one, returns the finding.
    pub(super) fn server(&self, advice: &Advice) -> Result<&ServerError, Finding> {
        let problem = |cause, detail: &str, next| {
            Err(Finding::problem(Step::Login, cause, detail).with_next(next))
        };
        match self {
            Self::Server(error) => Ok(error),
            Self::Silent => Err(silent_finding(Step::Login)),
            Self::ClosedAtOnce => Err(closed_finding(Step::Login)),
            Self::TimedOut => problem(
                "login_timed_out",
                "the server did not complete the login within 10 s",
                advice.timed_out,
            ),
            Self::Closed => problem(
                "login_closed",
                "the connection was closed during the login, without a reason",
                advice.closed,
            ),
            Self::TlsAlert(alert) => Err(tls::alert_finding(*alert, true)),
            Self::OtherProtocol(other) => {
                Err(tls::other_protocol_finding(Step::Login, &other.to_string()))
            }
            Self::Other(reason) => problem("login_failed", reason, advice.other),
        }
    }
}

/// Returns whether the other side closed the connection.
fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}
