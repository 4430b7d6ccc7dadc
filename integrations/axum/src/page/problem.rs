//! Causes of problems, and what the operators' manual advises.

use claviger::error::{Advice, ConnectError, ConnectErrorKind, ProviderError, ProviderErrorKind};

/// The operators' manual.
const MANUAL: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/operating.md");

/// What went wrong. Equal causes of several pools are shown once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A provider's fetch failed.
    Fetch {
        kind: ProviderErrorKind,
        message: String,
    },
    /// A login with a pool's credentials failed.
    Login {
        kind: ConnectErrorKind,
        code: Option<String>,
        message: String,
    },
    /// Connections outlive the drain deadline.
    DrainAbandoned,
    /// An actor of the library failed.
    Restarted,
}

/// Whose problem it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Provider,
    Pool,
    Actor,
}

impl Cause {
    pub(super) fn fetch(error: &ProviderError) -> Self {
        Self::Fetch {
            kind: error.kind(),
            message: error.message().to_owned(),
        }
    }

    /// The target is omitted, because it may differ between pools with the same error.
    pub(super) fn login(error: &ConnectError) -> Self {
        Self::Login {
            kind: error.kind(),
            code: error.code().map(str::to_owned),
            message: error.message().to_owned(),
        }
    }

    pub(super) fn owner(&self) -> Owner {
        match self {
            Self::Fetch { .. } => Owner::Provider,
            Self::Login { .. } | Self::DrainAbandoned => Owner::Pool,
            Self::Restarted => Owner::Actor,
        }
    }

    /// Returns what happened, as a heading.
    pub(super) fn heading(&self) -> &'static str {
        match self {
            Self::Fetch { .. } => "Fetch failed",
            Self::Login { kind, .. } => match kind {
                ConnectErrorKind::Rejected => "Database rejects the credential",
                _ => "Login failed",
            },
            Self::DrainAbandoned => "Connections outlive the drain deadline",
            Self::Restarted => "Actor failed and was restarted",
        }
    }

    /// Returns the error's message, if there is one.
    pub(super) fn message(&self) -> Option<&str> {
        match self {
            Self::Fetch { message, .. } | Self::Login { message, .. } => Some(message),
            Self::DrainAbandoned | Self::Restarted => None,
        }
    }

    /// Returns the error's kind and SQLSTATE, as in the log.
    pub(super) fn words(&self) -> Option<String> {
        match self {
            Self::Fetch { kind, .. } => Some(kind.as_str().to_owned()),
            Self::Login { kind, code, .. } => Some(match code {
                Some(code) => format!("{}, SQLSTATE {code}", kind.as_str()),
                None => kind.as_str().to_owned(),
            }),
            Self::DrainAbandoned | Self::Restarted => None,
        }
    }

    /// Returns the advice of the operators' manual, if it has one for each kind of the error.
    pub(super) fn advice(&self) -> Option<Advice> {
        match self {
            Self::Fetch { kind, .. } => Some(kind.advice()),
            Self::Login { kind, .. } => Some(kind.advice()),
            Self::DrainAbandoned | Self::Restarted => None,
        }
    }

    /// Returns the address of the manual's section.
    pub(super) fn manual(&self) -> String {
        manual(match self {
            Self::Fetch { .. } => "errors-of-a-backend",
            Self::Login { .. } => "errors-of-a-database",
            Self::DrainAbandoned => "clavigerdrainabandoned",
            Self::Restarted => "clavigeractorrestarting",
        })
    }
}

/// Returns the address of a section of the operators' manual.
pub(super) fn manual(section: &str) -> String {
    format!("{MANUAL}#{section}")
}

/// The manual's section about readiness.
pub(super) const FIRST_MINUTE: &str = "the-first-minute";
/// The manual's section about held providers.
pub(super) const HELD: &str = "provider-held";
