//! A secret for a login: given in code or read from a file.

use std::fmt;
use std::io;
use std::path::PathBuf;

use claviger::error::{ProviderError, ProviderErrorKind};
use secrecy::{ExposeSecret, SecretString};

use crate::api::is_header_value;
use crate::bounded_file::{MAX_SECRET_FILE, read_bounded, strip_bom};
use crate::path::{error_at, misconfigured};

/// A secret for a login.
pub(crate) enum AuthSecret {
    Given(SecretString),
    File(PathBuf),
}

impl AuthSecret {
    pub(super) fn given(secret: impl Into<String>) -> Self {
        Self::Given(SecretString::from(secret.into()))
    }

    pub(super) fn file(path: impl Into<PathBuf>) -> Self {
        Self::File(path.into())
    }

    /// Checks the secret or the path of its file. Reads no file.
    ///
    /// # Errors
    /// `Misconfigured`, naming the setting.
    pub(super) fn validate(&self, setting: &str) -> Result<(), ProviderError> {
        match self {
            Self::Given(secret) if is_header_value(secret.expose_secret()) => Ok(()),
            Self::Given(_) => Err(misconfigured(
                setting,
                "set it in visible ASCII, without white space or a line break",
            )),
            Self::File(path) if path.as_os_str().is_empty() => {
                Err(misconfigured(setting, "set the path of its file"))
            }
            Self::File(path) if path.as_os_str().as_encoded_bytes().contains(&0) => Err(
                misconfigured(setting, "set a path of its file without a NUL character"),
            ),
            Self::File(_) => Ok(()),
        }
    }

    pub(crate) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// Returns the secret. A file is read again at each call.
    ///
    /// # Errors
    /// Transient for a file that does not exist yet or is empty. No error contains content.
    pub(crate) async fn read(&self) -> Result<SecretString, ProviderError> {
        let path = match self {
            Self::Given(secret) => return Ok(secret.clone()),
            Self::File(path) => path.clone(),
        };
        let shown = path.display().to_string();
        let read = tokio::task::spawn_blocking(move || read_bounded(&path, MAX_SECRET_FILE)).await;
        let error = |kind, problem: &str, action: &str| error_at(&shown, kind, problem, action);
        // A file that is not UTF-8 is malformed, too.
        let read = read.map(|read| {
            read.map(|content| {
                str::from_utf8(strip_bom(&content))
                    .ok()
                    .map(|text| text.trim().to_owned())
            })
        });
        match read {
            Ok(Ok(Some(word))) if is_header_value(&word) => Ok(SecretString::from(word)),
            Ok(Ok(Some(word))) if word.is_empty() => Err(error(
                ProviderErrorKind::Unavailable,
                "the file is empty",
                "check what writes it. It is read again",
            )),
            Ok(Err(problem)) if problem.kind() == io::ErrorKind::NotFound => Err(error(
                ProviderErrorKind::Unavailable,
                "the file does not exist",
                "write it, or set the path where it is mounted",
            )),
            Ok(Err(problem)) if problem.kind() == io::ErrorKind::PermissionDenied => Err(error(
                ProviderErrorKind::Denied,
                "the file may not be read",
                "let this process's user read it",
            )),
            Ok(Err(problem)) if problem.kind() == io::ErrorKind::InvalidInput => Err(error(
                ProviderErrorKind::Malformed,
                "it is not a regular file",
                "set the path of one",
            )),
            Ok(Err(problem)) if problem.kind() == io::ErrorKind::FileTooLarge => Err(error(
                ProviderErrorKind::Malformed,
                "the file is longer than 64 KiB",
                "write one word in visible ASCII",
            )),
            Ok(Ok(_)) => Err(error(
                ProviderErrorKind::Malformed,
                "the file contains other than one word in visible ASCII",
                "write the secret alone",
            )),
            Ok(Err(problem)) => Err(error(
                ProviderErrorKind::Unavailable,
                &format!("the file could not be read ({problem})"),
                "correct the path or its file system. It is read again",
            )),
            Err(_) => Err(error(
                ProviderErrorKind::Unavailable,
                "the file could not be read",
                "check the service's output for a panic",
            )),
        }
    }
}

impl fmt::Debug for AuthSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(_) => f.write_str("[redacted]"),
            Self::File(path) => path.fmt(f),
        }
    }
}
