//! Why a server did not start.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::programs::NotInstalled;

/// Why a server did not start.
///
/// Its `Debug` form is the message with its causes, as a person reads it: that is what a
/// test shows when it unwraps.
#[non_exhaustive]
pub enum StartError {
    /// The server is not on this machine; the message says how to install it.
    NotInstalled(NotInstalled),
    /// A file could not be written or a program could not be run.
    Io {
        /// What was to be done.
        purpose: &'static str,
        /// What stood in the way.
        source: io::Error,
    },
    /// A key or certificate could not be made.
    #[cfg(feature = "tls")]
    Certificate(rcgen::Error),
    /// Somebody else listens on the port.
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The server started and ended again: a setting that it does not accept, most likely.
    Ended {
        /// The end of its log.
        log: String,
    },
    /// The server runs and does not get ready.
    NotReady {
        /// How long it was waited for.
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
            Self::Certificate(_) => f.write_str("failed to make a certificate"),
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
            // What is missing is the whole of that message.
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

/// The message and those of its causes, on one line where they are.
pub(crate) fn with_causes(error: &dyn Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{error}")?;
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(f, ": {error}")?;
        cause = error.source();
    }
    Ok(())
}

/// Says what an I/O error was met at.
pub(crate) fn io(purpose: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Io { purpose, source }
}
