//! Settings of a provider, checked before any file is read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::lease::OldConnections;

use crate::format::{CredentialFile, FileFormat};
use crate::provider::FileProvider;

const DEFAULT_POLL_INTERVAL: Duration = Duration::from_secs(30);
const MIN_POLL_INTERVAL: Duration = Duration::from_secs(1);
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(24 * 3_600);

/// Builds a [`FileProvider`] with settings other than the defaults.
///
/// ```
/// use std::time::Duration;
/// use claviger_file::{FileFormat, FileProvider};
///
/// // /etc/orders-db/DB_USER and /etc/orders-db/DB_PASSWORD, on a network mount
/// let provider = FileProvider::builder("/etc/orders-db", FileFormat::Directory)
///     .with_user_key("DB_USER")
///     .with_password_key("DB_PASSWORD")
///     .with_poll_interval(Duration::from_secs(10)) // a change at 0:01 is adopted at 0:10
///     .build()?;
/// # drop(provider);
/// # Ok::<_, claviger::error::ProviderError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "call `build` to make the provider"]
pub struct FileProviderBuilder {
    path: PathBuf,
    format: FileFormat,
    user_key: Option<String>,
    password_key: Option<String>,
    poll_interval: Duration,
    is_token: bool,
    old_connections: OldConnections,
}

impl FileProviderBuilder {
    pub(crate) fn new(path: &Path, format: FileFormat) -> Self {
        Self {
            path: path.to_owned(),
            format,
            user_key: None,
            password_key: None,
            poll_interval: DEFAULT_POLL_INTERVAL,
            is_token: false,
            old_connections: OldConnections::Drain,
        }
    }

    /// Sets the key of the user: in [`FileFormat::Directory`] the name of a file. Default:
    /// `username`; in [`FileFormat::Json`] `username` or `user`.
    pub fn with_user_key(mut self, key: impl Into<String>) -> Self {
        self.user_key = Some(key.into());
        self
    }

    /// Sets the key of the password: in [`FileFormat::Directory`] the name of a file. Default:
    /// `password`.
    pub fn with_password_key(mut self, key: impl Into<String>) -> Self {
        self.password_key = Some(key.into());
        self
    }

    /// Sets the time between two polls, from 1 s to 1 day. Default: 30 s.
    ///
    /// Files are polled although they are watched, because network and FUSE mounts report no
    /// changes. It is also the time after which a failed watch is set up again.
    pub fn with_poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Marks the password as a bearer token. Pools then reject it before the first connect unless
    /// TLS is verified. Default: a password.
    pub fn with_token(mut self) -> Self {
        self.is_token = true;
        self
    }

    /// Sets what is done with open connections once the files contain other credentials. Default:
    /// [`OldConnections::Drain`].
    pub fn with_old_connections(mut self, old_connections: OldConnections) -> Self {
        self.old_connections = old_connections;
        self
    }

    /// Checks the settings and makes the provider. Reads no file.
    ///
    /// # Errors
    /// `Misconfigured`, naming the setting:
    /// - "path": empty, with a NUL, or relative in an unknown working directory
    /// - "user": empty or with a NUL
    /// - "user_key" and "password_key": empty, with a NUL, no plain file name in a directory, or
    ///   set for a format without keys
    /// - "poll_interval": out of range
    pub fn build(self) -> Result<FileProvider, ProviderError> {
        let file = CredentialFile::new(
            absolute(&self.path)?,
            self.format,
            self.user_key,
            self.password_key,
        )?;
        if !(MIN_POLL_INTERVAL..=MAX_POLL_INTERVAL).contains(&self.poll_interval) {
            return Err(misconfigured(
                "poll_interval",
                &format!(
                    "must be between 1 s and 1 day, not {:?}",
                    self.poll_interval
                ),
            ));
        }
        Ok(FileProvider::from_settings(
            file,
            self.poll_interval,
            self.is_token,
            self.old_connections,
        ))
    }
}

fn absolute(path: &Path) -> Result<PathBuf, ProviderError> {
    if path.as_os_str().is_empty() {
        return Err(misconfigured(
            "path",
            "is empty; set the path where the credentials are mounted",
        ));
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(misconfigured("path", "has a NUL character; remove it"));
    }
    std::path::absolute(path).map_err(|error| {
        misconfigured(
            "path",
            "is relative and the working directory is unknown; set an absolute path",
        )
        .with_source(error)
    })
}

/// Reports an invalid setting and what would be right.
pub(crate) fn misconfigured(setting: &str, problem: &str) -> ProviderError {
    ProviderError::new(
        ProviderErrorKind::Misconfigured,
        format!("\"{setting}\" {problem}"),
    )
}
