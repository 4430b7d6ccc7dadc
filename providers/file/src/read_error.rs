//! What is wrong with a file, told without its content.

use std::io;
use std::path::Path;

use claviger::{ProviderError, ProviderErrorKind};

/// Why a reading gave no login.
#[derive(Debug)]
pub(crate) struct ReadError {
    error: ProviderError,
    unfinished: bool,
}

impl ReadError {
    /// The content of `path` cannot be used; `problem` says what would be right, and nothing of the
    /// content.
    pub(crate) fn malformed(path: &Path, problem: &str) -> Self {
        Self::new(ProviderErrorKind::Malformed, path, problem)
    }

    /// The path leads to something of another kind than the provider was made for.
    pub(crate) fn misconfigured(path: &Path, problem: &str) -> Self {
        Self::new(ProviderErrorKind::Misconfigured, path, problem)
    }

    /// It may be read a moment later.
    pub(crate) fn unavailable(path: &Path, problem: &str) -> Self {
        Self::new(ProviderErrorKind::Unavailable, path, problem)
    }

    /// The file system said no. `wanted` is what the path should lead to, with its article.
    pub(crate) fn io(path: &Path, wanted: &str, error: io::Error) -> Self {
        let (kind, problem) = match error.kind() {
            io::ErrorKind::NotFound => (
                ProviderErrorKind::NotFound,
                format!(
                    "does not exist; write {wanted} there, or give the path where it is mounted"
                ),
            ),
            io::ErrorKind::PermissionDenied => (
                ProviderErrorKind::Denied,
                format!(
                    "may not be read; give this process's user the right to read {wanted} and to search every directory above it"
                ),
            ),
            io::ErrorKind::NotADirectory => (
                ProviderErrorKind::Misconfigured,
                format!("leads through something that is no directory; give the path of {wanted}"),
            ),
            io::ErrorKind::IsADirectory => (
                ProviderErrorKind::Misconfigured,
                format!("is a directory; give the path of {wanted}"),
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

    /// Marks what a writer at work leaves behind for a moment: reading again soon may help.
    #[must_use]
    pub(crate) fn unfinished(mut self) -> Self {
        self.unfinished = true;
        self
    }

    /// Whether a writer may be at work.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// What the core is told.
    pub(crate) fn into_error(self) -> ProviderError {
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
    fn every_answer_of_the_file_system_has_its_kind() {
        for (said, kind) in [
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
            let failed = ReadError::io(Path::new("/run/login"), "a file", io::Error::from(said));
            assert!(!failed.is_unfinished());
            let error = failed.into_error();
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().starts_with("/run/login: "), "{error}");
        }
    }
}
