//! The refusal that many callers share: sqlx's own error cannot be cloned.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use sqlx::error::{DatabaseError, ErrorKind};

use crate::clock::rfc3339;
use crate::error::Fault;
use crate::pool::{Generation, Phase, Shared};

/// A database's refusal as told to callers that it did not meet itself, with the original SQLSTATE and message; or why there is no credential to log in with.
///
/// It comes as [`sqlx::Error::Database`]. Match on `code()`, or use `try_downcast_ref`: sqlx's `downcast_ref` panics on a type that it does not expect.
#[derive(Clone, Debug)]
pub struct Refusal {
    code: Option<String>,
    message: String,
}

impl Refusal {
    /// The error for a caller whose generation has nothing to hope for.
    pub(super) fn explaining<P>(shared: &Shared<P>, generation: &Generation<P>) -> sqlx::Error {
        let last = shared.keeper().and_then(|keeper| keeper.last_fault());
        if let Some(fault) = generation.end.refusal() {
            return Self::of(fault);
        }
        if generation.end.phase() == Phase::Vacant {
            return match last {
                Some(fault) => Self::of(&fault),
                None => sqlx::Error::PoolTimedOut,
            };
        }
        let died = generation.expiry.wall().map(rfc3339).unwrap_or_default();
        let why = last.map(|fault| format!("; the last proof of a newer one failed: {fault}")).unwrap_or_default();
        let message = format!(
            "the credential of generation {} of pool {:?} expired at {died}, and no newer one is served yet{why}",
            generation.number, shared.name
        );
        sqlx::Error::Database(Box::new(Self { code: None, message }))
    }

    /// The error for a caller whose deadline has come: what the server said if it has no room, else that it took too long.
    pub(super) fn at_the_deadline<P>(shared: &Shared<P>) -> sqlx::Error {
        shared.gate.why_full(shared.clock.mono()).map_or(sqlx::Error::PoolTimedOut, |fault| Self::of(&fault))
    }

    fn of(fault: &Fault) -> sqlx::Error {
        sqlx::Error::Database(Box::new(Self { code: fault.code().map(str::to_owned), message: fault.message().to_owned() }))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Refusal {}

impl DatabaseError for Refusal {
    fn message(&self) -> &str {
        &self.message
    }

    fn code(&self) -> Option<Cow<'_, str>> {
        self.code.as_deref().map(Cow::Borrowed)
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }

    fn as_error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        self
    }

    fn as_error_mut(&mut self) -> &mut (dyn StdError + Send + Sync + 'static) {
        self
    }

    fn into_error(self: Box<Self>) -> Box<dyn StdError + Send + Sync + 'static> {
        self
    }
}
