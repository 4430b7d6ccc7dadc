//! Why a file yields no credentials. No error contains content of the file.

use std::io;
use std::path::Path;

use claviger::error::{ProviderError, ProviderErrorKind};

/// Why a read yielded no credentials.
#[derive(Debug)]
pub(crate) struct ReadError {
    error: ProviderError,
    unfinished: bool,
}

impl ReadError {
    /// The content at `path` cannot be used. `problem` says what would be right and contains no
    /// content.
    pub(crate) fn malformed(path: &Path, problem: &str) -> Self {
        Self::new(ProviderErrorKind::Malformed, path, problem)
    }

    /// The path leads to another kind of file than the format needs.
    pub(crate) fn misconfigured(path: &Path, problem: &str) -> Self {
        Self::new(ProviderErrorKind::Misconfigured, path, problem)
    }

    /// The read may succeed a moment later.
    pub(crate) fn unavailable(path: &Path, problem: &str) -> Self {
        Self::new(ProviderErrorKind::Unavailable, path, problem)
    }

    /// The file system returned an error. `wanted` is what the path should lead to, with its
    /// article.
    pub(crate) fn io(path: &Path, wanted: &str, error: io::Error) -> Self {
        let (kind, problem) = match error.kind() {
            io::ErrorKind::NotFound => (
                ProviderErrorKind::NotFound,
                format!(
                    "does not exist; write {wanted} there, or set the path where it is mounted"
                ),
            ),
            io::ErrorKind::PermissionDenied => (
                ProviderErrorKind::Denied,
                format!(
                    "may not be read; let this process's user read {wanted} and search every directory above it"
                ),
            ),
            io::ErrorKind::NotADirectory => (
                ProviderErrorKind::Misconfigured,
                format!("leads through a file as if it were a directory; set the path of {wanted}"),
            ),
            io::ErrorKind::IsADirectory => (
                ProviderErrorKind::Misconfigured,
                format!("is a directory; set the path of {wanted}"),
            ),
            _ => (
                ProviderErrorKind::Unavailable,
                "could not be read".to_owned(),
            ),
        };
        let mut failed = Self::new(kind, path, &problem);
        failed.error = failed.error.with_source(error);
        failed
    }

    /// Marks a state that a writer leaves for a moment: reading again soon may help.
    #[must_use]
    pub(crate) fn unfinished(mut self) -> Self {
        self.unfinished = true;
        self
    }

    /// Returns whether a writer may be at work.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// Returns the error that a fetch returns.
    pub(crate) fn into_provider_error(self) -> ProviderError {
        self.error
    }

    fn new(kind: ProviderErrorKind, path: &Path, problem: &str) -> Self {
        Self {
            error: ProviderError::new(kind, format!("{}: {problem}", path.display())),
            unfinished: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_io_error_has_its_kind() {
        for (io_kind, kind) in [
            (io::ErrorKind::NotFound, ProviderErrorKind::NotFound),
            (io::ErrorKind::PermissionDenied, ProviderErrorKind::Denied),
            (
                io::ErrorKind::NotADirectory,
                ProviderErrorKind::Misconfigured,
            ),
            (
                io::ErrorKind::IsADirectory,
                ProviderErrorKind::Misconfigured,
            ),
            (io::ErrorKind::TimedOut, ProviderErrorKind::Unavailable),
        ] {
            let failed = ReadError::io(
                Path::new("/run/password"),
                "a file",
                io::Error::from(io_kind),
            );
            assert!(!failed.is_unfinished());
            let error = failed.into_provider_error();
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().starts_with("/run/password: "), "{error}");
        }
    }
}
