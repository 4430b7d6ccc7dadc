//! The provider: reads the files at each fetch and watches them in between.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use claviger::error::ProviderError;
use claviger::lease::OldConnections;
use claviger::provider::{FetchRequest, Fetched, Hints};
use claviger::{Credentials, Lease, Provider, Revision};
use tokio::sync::Mutex;

use crate::builder::FileProviderBuilder;
use crate::format::{CredentialFile, FileContents, FileFormat};
use crate::read_error::ReadError;
use crate::{revision, watch};

/// Pauses before an incomplete file is read again: 250 ms in all.
const RETRY_PAUSES: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(100),
];

/// Reads database credentials from mounted files. Reads them again when they change.
///
/// The files are watched, and polled every 30 s. A lease has no expiry. Its revision is a
/// digest of the content under a random key of the process: equal content is the same credential.
/// A relative path is resolved against the working directory at construction.
///
/// [`builder`](Self::builder) takes settings: other keys, the poll interval, what is done with old
/// connections.
///
/// Errors of a fetch:
///
/// | kind | the file |
/// |---|---|
/// | `NotFound` | does not exist |
/// | `Denied` | may not be read |
/// | `Malformed` | is empty, longer than 64 KiB, not UTF-8 or not in its format; or has a field that is missing, duplicate or invalid |
/// | `Misconfigured` | is a directory, pipe or device instead of a file, or the reverse |
/// | `Unavailable` | could not be read for another reason, or kept changing |
///
/// All but the last end a registration at once. Later the current lease stays in use. An incomplete
/// file (empty, or JSON that ends early) is read again for 250 ms first. No error, log line or
/// `Debug` form contains content.
///
/// A password file that other users may read is logged once at WARN. Other users are all users, or
/// the group if the file belongs to this process's user.
///
/// ```
/// use claviger_file::FileProvider;
///
/// let provider = FileProvider::directory("/etc/orders-db")?;
/// # drop(provider);
/// # Ok::<_, claviger::error::ProviderError>(())
/// ```
pub struct FileProvider {
    file: CredentialFile,
    poll_interval: Duration,
    is_token: bool,
    old_connections: OldConnections,
    /// Lock for the time of a read, so that a mount that hangs costs one thread, not one per
    /// attempt.
    last_read: Arc<Mutex<LastRead>>,
    /// Whether the WARN line about a file that other users may read was logged.
    open_to_others_logged: AtomicBool,
}

/// Result of the last fetch, as far as the watch needs it.
#[derive(Default)]
enum LastRead {
    /// No fetch has read the files yet.
    #[default]
    Pending,
    /// The files contained no usable credentials.
    Unusable,
    /// The files contained the credentials of this revision.
    Usable(Revision),
}

impl LastRead {
    fn from_result(read: &Result<FileContents, ReadError>) -> Self {
        match read
            .as_ref()
            .map(|contents| revision::digest(&contents.credentials))
        {
            Ok(Ok(revision)) => Self::Usable(revision),
            Ok(Err(_)) | Err(_) => Self::Unusable,
        }
    }

    /// Returns whether another fetch would have another result.
    fn is_superseded_by(&self, now: &Self) -> bool {
        match (self, now) {
            (Self::Usable(last), Self::Usable(now)) => last != now,
            (Self::Usable(_), _) | (Self::Unusable, Self::Usable(_)) => true,
            (Self::Unusable | Self::Pending, _) => false,
        }
    }
}

impl FileProvider {
    /// Reads a JSON object; see [`FileFormat::Json`].
    ///
    /// # Errors
    /// As [`FileProviderBuilder::build`].
    pub fn json(path: impl AsRef<Path>) -> Result<Self, ProviderError> {
        Self::builder(path, FileFormat::Json).build()
    }

    /// Reads a directory with a file for the user and one for the password; see
    /// [`FileFormat::Directory`].
    ///
    /// # Errors
    /// As [`FileProviderBuilder::build`].
    pub fn directory(path: impl AsRef<Path>) -> Result<Self, ProviderError> {
        Self::builder(path, FileFormat::Directory).build()
    }

    /// Reads a connection URL; see [`FileFormat::Url`].
    ///
    /// # Errors
    /// As [`FileProviderBuilder::build`].
    pub fn url(path: impl AsRef<Path>) -> Result<Self, ProviderError> {
        Self::builder(path, FileFormat::Url).build()
    }

    /// Reads a file with the password alone, of this user; see [`FileFormat::Password`].
    ///
    /// # Errors
    /// As [`FileProviderBuilder::build`].
    pub fn password(
        path: impl AsRef<Path>,
        user: impl Into<String>,
    ) -> Result<Self, ProviderError> {
        Self::builder(path, FileFormat::password(user)).build()
    }

    /// Returns a builder for credentials at this path in this format.
    pub fn builder(path: impl AsRef<Path>, format: FileFormat) -> FileProviderBuilder {
        FileProviderBuilder::new(path.as_ref(), format)
    }

    pub(crate) fn from_settings(
        file: CredentialFile,
        poll_interval: Duration,
        is_token: bool,
        old_connections: OldConnections,
    ) -> Self {
        Self {
            file,
            poll_interval,
            is_token,
            old_connections,
            last_read: Arc::default(),
            open_to_others_logged: AtomicBool::new(false),
        }
    }

    /// Reads the files in a blocking thread. Incomplete files are read again.
    async fn read(&self) -> Result<Credentials, ProviderError> {
        let mut pauses = RETRY_PAUSES.into_iter();
        loop {
            let error = match self.read_once().await {
                Ok(contents) => {
                    if let Some(mode) = contents.open_to_others {
                        self.log_open_to_others(mode);
                    }
                    let credentials = contents.credentials;
                    return Ok(if self.is_token {
                        credentials.with_password_as_token()
                    } else {
                        credentials
                    });
                }
                Err(error) => error,
            };
            match pauses.next().filter(|_| error.is_unfinished()) {
                Some(pause) => {
                    tracing::debug!(
                        path = %self.file.path().display(),
                        pause = ?pause,
                        "file may be half-written; reading it again"
                    );
                    tokio::time::sleep(pause).await;
                }
                None => return Err(error.into_provider_error()),
            }
        }
    }

    async fn read_once(&self) -> Result<FileContents, ReadError> {
        let mut last = Arc::clone(&self.last_read).lock_owned().await;
        let file = self.file.clone();
        watch::run_blocking(move || {
            let read = file.read();
            *last = LastRead::from_result(&read);
            read
        })
        .await
    }

    /// Logs that other users may read the password, once for this provider.
    fn log_open_to_others(&self, mode: u32) {
        if !self.open_to_others_logged.swap(true, Ordering::Relaxed) {
            let path = self.file.password_path();
            tracing::warn!(
                path = %path.display(),
                mode = %format_args!("{mode:04o}"),
                "file readable by other users; chmod 0600, or defaultMode: 0400 in Kubernetes"
            );
        }
    }

    /// Returns whether the files have changed since the last fetch; `false` before the first one.
    ///
    /// Compares contents, because a file written twice within a tick of the file system's clock
    /// keeps its times and may keep its length.
    async fn has_changed_since_last_fetch(&self) -> bool {
        let last = Arc::clone(&self.last_read).lock_owned().await;
        if matches!(*last, LastRead::Pending) {
            return false;
        }
        let file = self.file.clone();
        watch::run_blocking(move || last.is_superseded_by(&LastRead::from_result(&file.read())))
            .await
    }
}

impl Provider for FileProvider {
    type Secret = Credentials;

    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        let credentials = self.read().await?;
        let revision = revision::digest(&credentials)?;
        match request.current {
            Some(lease) if lease.revision() == &revision => Ok(Fetched::Unchanged),
            _ => Ok(Lease::new(credentials, revision)
                .with_old_connections(self.old_connections)
                .with_refresh_after(self.poll_interval)
                .into()),
        }
    }

    async fn watch(&self, hints: Hints) {
        watch::watch_paths(
            self.file.watched_paths(),
            self.poll_interval,
            self.has_changed_since_last_fetch(),
            hints,
        )
        .await
    }
}

impl fmt::Debug for FileProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileProvider")
            .field("file", &self.file)
            .field("poll_interval", &self.poll_interval)
            .field("is_token", &self.is_token)
            .field("old_connections", &self.old_connections)
            .finish_non_exhaustive()
    }
}
