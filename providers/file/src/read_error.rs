//! Errors of reading a file. None contains content of the file.

use std::io;
use std::path::Path;

use claviger::error::{ProviderError, ProviderErrorKind};

/// Error of reading a file.
#[derive(Debug)]
pub(crate) struct ReadError {
    error: ProviderError,
    unfinished: bool,
}

impl ReadError {
    /// Makes the error of unusable content at `path`. `problem` contains the remedy and no content.
    pub(crate) fn malformed(path: &Path, problem: &str) -> Self {
        Self::new(ProviderErrorKind::Malformed, path, problem)
    }

    /// Makes the error of a file of another kind than the format needs.
    pub(crate) fn misconfigured(path: &Path, problem: &str) -> Self {
        Self::new(ProviderErrorKind::Misconfigured, path, problem)
    }

    /// Makes the error of a read that may succeed later.
    pub(crate) fn unavailable(path: &Path, problem: &str) -> Self {
        Self::new(ProviderErrorKind::Unavailable, path, problem)
    }

    /// Explains an error of the file system. `wanted` is what the path should be, with its article.
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
                    "may not be read; let this process's user read {wanted} and search every \
                    directory above it"
                ),
            ),
            io::ErrorKind::NotADirectory => (
                ProviderErrorKind::Misconfigured,
                format!("uses a file as a directory; set the path of {wanted}"),
            ),
            io::ErrorKind::IsADirectory => (
                ProviderErrorKind::Misconfigured,
                format!("is a directory; set the path of {wanted}"),
            ),
            _ => (
                ProviderErrorKind::Unavailable,
                format!(
                    "could not be read ({error}); correct the path, its links or its file system"
                ),
            ),
        };
        let mut failed = Self::new(kind, path, &problem);
        failed.error = failed.error.with_source(error);
        failed
    }

    /// Marks a state that a writer leaves behind briefly, so that the file is read again soon.
    #[must_use]
    pub(crate) fn unfinished(mut self) -> Self {
        self.unfinished = true;
        self
    }

    /// Returns whether a writer may not have finished.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// Returns the error of the fetch.
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
