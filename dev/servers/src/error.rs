//! Errors when a server starts.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::programs::NotInstalled;

/// The reason that a server did not start.
///
/// Its `Debug` form is the message with its causes, because tests show that form when they unwrap.
#[non_exhaustive]
pub enum StartError {
    /// The server is not on this machine. The message contains the command that installs it.
    NotInstalled(NotInstalled),
    /// A file could not be written or a program could not be run.
    Io {
        /// The step that failed.
        purpose: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// A key or certificate could not be created.
    #[cfg(feature = "tls")]
    Certificate(rcgen::Error),
    /// Another process listens on the port.
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The server ended during its start, most likely because of an invalid setting.
    Ended {
        /// The end of its log.
        log: String,
    },
    /// The server runs and does not become ready.
    NotReady {
        /// The timeout.
        after: Duration,
        /// The end of its log.
        log: String,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled(missing) => missing.fmt(f),
            Self::Io { purpose, .. } => write!(f, "failed to {purpose}"),
            #[cfg(feature = "tls")]
            Self::Certificate(_) => f.write_str("failed to create a certificate"),
            Self::PortTaken { port } => write!(f, "port {port} of 127.0.0.1 is taken"),
            Self::Ended { log } => write!(f, "the server ended while it started; its log:\n{log}"),
            Self::NotReady { after, log } => write!(
                f,
                "the server is not ready after {} s; its log:\n{log}",
                after.as_secs()
            ),
        }
    }
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_causes(self, f)
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // `NotInstalled` is displayed as it is, and has no cause.
            Self::NotInstalled(_)
            | Self::PortTaken { .. }
            | Self::Ended { .. }
            | Self::NotReady { .. } => None,
            Self::Io { source, .. } => Some(source),
            #[cfg(feature = "tls")]
            Self::Certificate(source) => Some(source),
        }
    }
}

impl From<NotInstalled> for StartError {
    fn from(missing: NotInstalled) -> Self {
        Self::NotInstalled(missing)
    }
}

/// Writes the error's message and those of its causes.
pub(crate) fn with_causes(error: &dyn Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{error}")?;
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(f, ": {error}")?;
        cause = error.source();
    }
    Ok(())
}

/// Adds the failed step to an I/O error.
pub(crate) fn io(purpose: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Io { purpose, source }
}
