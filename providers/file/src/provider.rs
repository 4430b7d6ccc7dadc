//! The provider: its settings, and how it answers.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use claviger::{
    Credentials, FetchRequest, Fetched, Hints, Lease, OldConnections, Provider, ProviderError,
    ProviderErrorKind, Revision,
};
use tokio::sync::Mutex;

use crate::format::{FileContents, Format};
use crate::read_error::ReadError;
use crate::{revision, watch};

const DEFAULT_POLL: Duration = Duration::from_secs(30);
const SHORTEST_POLL: Duration = Duration::from_secs(1);
const LONGEST_POLL: Duration = Duration::from_secs(24 * 3_600);

/// The pauses before reading again what looks half-written: 250 ms in all.
const RETRY_PAUSES: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(40),
    Duration::from_millis(80),
    Duration::from_millis(100),
];

/// A database login in mounted files, taken anew when they change.
///
/// The files are watched, and looked at every [poll interval](Self::with_poll_interval) besides. A lease has no death;
/// its revision is a digest of the content under a random key of the process, so the same content
/// is the same credential. A relative path is taken from the working directory at construction.
///
/// What each kind of error means:
///
/// | kind | the file |
/// |---|---|
/// | `NotFound` | does not exist |
/// | `Denied` | may not be read |
/// | `Malformed` | is empty, longer than 64 KiB, not UTF-8, not in its shape, without a part that is needed, has a NUL in one, or a host that cannot be right (a URL, several, a port or blank in it) |
/// | `Misconfigured` | is a directory, pipe or device where a file is wanted, or the reverse; or a setting cannot be right |
/// | `Unavailable` | could not be read for another reason, or kept changing |
///
/// All but the last end a registration at once; later the held lease goes on serving. What looks
/// half-written (empty, or JSON that ends early) is read again for 250 ms first. No error, log line
/// or `Debug` carries content.
///
/// A password's file that other users may read is logged once at WARN: every user, or the group of
/// a file that belongs to this process's user.
///
/// ```
/// use std::time::Duration;
/// use claviger::OldConnections;
/// use claviger_file::FileProvider;
///
/// let provider = FileProvider::directory("/etc/orders-db")?
///     .with_poll_interval(Duration::from_secs(10)) // where no event tells: a change at 0:01 is taken at 0:10
///     .with_old_connections(OldConnections::Drain);
/// # drop(provider);
/// # Ok::<_, claviger::ProviderError>(())
/// ```
pub struct FileProvider {
    format: Format,
    path: PathBuf,
    poll: Duration,
    token: bool,
    old_connections: OldConnections,
    /// The first setting that cannot be right.
    fault: Option<ProviderError>,
    /// What the last fetch read. Locked while files are read: a mount that hangs costs one thread,
    /// not one per attempt.
    last: Arc<Mutex<LastRead>>,
    /// That other users may read the password was logged.
    open_to_others_logged: AtomicBool,
}

/// What a fetch read, as far as the watch has to know it.
#[derive(Default)]
enum LastRead {
    /// No fetch has read yet.
    #[default]
    Nothing,
    /// The files held no usable credentials.
    Unusable,
    /// The files held the credentials of this revision.
    Usable(Revision),
}

impl LastRead {
    fn from_result(read: &Result<FileContents, ReadError>) -> Self {
        match read
            .as_ref()
            .map(|found| revision::digest(&found.credentials))
        {
            Ok(Ok(revision)) => Self::Usable(revision),
            Ok(Err(_)) | Err(_) => Self::Unusable,
        }
    }

    /// Whether a fetch now would find something else than the last one did.
    fn is_superseded_by(&self, now: &Self) -> bool {
        match (self, now) {
            (Self::Usable(last), Self::Usable(now)) => last != now,
            (Self::Usable(_), _) | (Self::Unusable, Self::Usable(_)) => true,
            (Self::Unusable | Self::Nothing, _) => false,
        }
    }
}

impl FileProvider {
    /// A JSON object: `username` (or `user`) and `password`, and where the database is: `host`,
    /// `port` (a number or a string of one) and `dbname` (or `database`).
    ///
    /// Without `port` it is the default port of the `engine`, by AWS's names (`postgres`,
    /// `mysql` …); without a known engine, the port of the pool's connect options. Without `dbname`
    /// the database is the pool's, too. Without `host` the pool's connect options say where the
    /// database is, and `port` and `dbname` are ignored. Other keys are ignored; null counts as
    /// missing.
    ///
    /// # Errors
    /// `Misconfigured` when the path is empty or has a NUL.
    pub fn json(path: impl AsRef<Path>) -> Result<Self, ProviderError> {
        Self::new(
            path.as_ref(),
            Format::Json {
                user_key: None,
                password_key: "password".to_owned(),
            },
        )
    }

    /// A directory with the files `username` and `password`, as Kubernetes mounts a secret. Both
    /// are read from one version, however often the kubelet moves `..data` meanwhile. In a
    /// directory without `..data` two files cannot be replaced at once: they are read again when
    /// one changes while they are read, and a pair that is half replaced is rejected by the
    /// database and replaced with the next change.
    ///
    /// One newline (`\n` or `\r\n`) at the end of a file is not part of it; other white space is.
    ///
    /// # Errors
    /// `Misconfigured` when the path is empty or has a NUL.
    pub fn directory(path: impl AsRef<Path>) -> Result<Self, ProviderError> {
        Self::new(
            path.as_ref(),
            Format::Directory {
                user_file: "username".to_owned(),
                password_file: "password".to_owned(),
            },
        )
    }

    /// A connection URL, `postgres://user:p%40ss@host:5432/database`, also `postgresql://`,
    /// `mysql://` or `mariadb://`. The port is 5432, or 3306 for the latter two, when not given;
    /// everything else must be there. User, password, host and database are percent-decoded: `@ / ?
    /// # %` must be encoded in them. Parameters after `?` are ignored: TLS is a matter of the
    /// pool's own options. White space around the URL is ignored.
    ///
    /// # Errors
    /// `Misconfigured` when the path is empty or has a NUL.
    pub fn url(path: impl AsRef<Path>) -> Result<Self, ProviderError> {
        Self::new(path.as_ref(), Format::Url)
    }

    /// A file that holds the password alone, for the user given here.
    ///
    /// One newline (`\n` or `\r\n`) at its end is not part of the password; other white space is.
    ///
    /// # Errors
    /// `Misconfigured` when the path or the user is empty or has a NUL.
    pub fn password(
        path: impl AsRef<Path>,
        user: impl Into<String>,
    ) -> Result<Self, ProviderError> {
        let user = user.into();
        check_text("user", &user)?;
        Self::new(path.as_ref(), Format::Password { user })
    }

    fn new(path: &Path, format: Format) -> Result<Self, ProviderError> {
        if path.as_os_str().is_empty() {
            return Err(misconfigured(
                "path",
                "is empty; give the path where the login is mounted",
            ));
        }
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(misconfigured(
                "path",
                "has a NUL character; no file system takes one",
            ));
        }
        let path = std::path::absolute(path).map_err(|error| {
            misconfigured(
                "path",
                "is relative, and the working directory is unknown; give an absolute path",
            )
            .with_source(error)
        })?;
        Ok(Self {
            format,
            path,
            poll: DEFAULT_POLL,
            token: false,
            old_connections: OldConnections::Drain,
            fault: None,
            last: Arc::default(),
            open_to_others_logged: AtomicBool::new(false),
        })
    }

    /// The key that holds the user: of [`json`](Self::json) instead of `username` and `user`, of
    /// [`directory`](Self::directory), where a key is a file's name, instead of `username`.
    ///
    /// An empty key, or one that is no plain file name where it must be, is `Misconfigured` on the
    /// first fetch; so is any for another shape.
    #[must_use]
    pub fn user_key(mut self, key: impl Into<String>) -> Self {
        let key = key.into();
        let checked = check_key("user_key", &key, &self.format);
        match &mut self.format {
            Format::Json { user_key, .. } => *user_key = Some(key),
            Format::Directory { user_file, .. } => *user_file = key,
            Format::Url | Format::Password { .. } => {}
        }
        self.note(checked)
    }

    /// The key that holds the password instead of `password`, of [`json`](Self::json) and
    /// [`directory`](Self::directory), where a key is a file's name.
    ///
    /// An empty key, or one that is no plain file name where it must be, is `Misconfigured` on the
    /// first fetch; so is any for another shape.
    #[must_use]
    pub fn password_key(mut self, key: impl Into<String>) -> Self {
        let key = key.into();
        let checked = check_key("password_key", &key, &self.format);
        match &mut self.format {
            Format::Json { password_key, .. } => *password_key = key,
            Format::Directory { password_file, .. } => *password_file = key,
            Format::Url | Format::Password { .. } => {}
        }
        self.note(checked)
    }

    /// How often the files are looked at besides being watched: network and FUSE mounts tell of no
    /// change. Default 30 s: a change at 0:01 that nobody told of is taken at 0:30 at the latest.
    /// It is also how often a watch that cannot be set up is tried again.
    ///
    /// Less than 1 s or more than a day is `Misconfigured` on the first fetch.
    #[must_use]
    pub fn with_poll_interval(mut self, every: Duration) -> Self {
        self.poll = every;
        let checked = if (SHORTEST_POLL..=LONGEST_POLL).contains(&every) {
            Ok(())
        } else {
            Err(misconfigured(
                "poll",
                &format!("of {every:?} cannot be right; give between 1 s and 1 day"),
            ))
        };
        self.note(checked)
    }

    /// Marks the password as a bearer token: pools reject it without verified TLS before the first
    /// connect. Default: a password.
    #[must_use]
    pub fn token(mut self) -> Self {
        self.token = true;
        self
    }

    /// What becomes of open connections once the files hold another login. Default
    /// [`OldConnections::Drain`].
    #[must_use]
    pub fn with_old_connections(mut self, old_connections: OldConnections) -> Self {
        self.old_connections = old_connections;
        self
    }

    fn note(mut self, checked: Result<(), ProviderError>) -> Self {
        self.fault = self.fault.or(checked.err());
        self
    }

    /// Reads in a thread that may block, again while a writer seems to be at work.
    async fn read(&self) -> Result<Credentials, ProviderError> {
        let mut pauses = RETRY_PAUSES.into_iter();
        loop {
            let error = match self.read_once().await {
                Ok(FileContents {
                    credentials,
                    open_to_others,
                }) => {
                    if let Some(mode) = open_to_others {
                        self.log_open_to_others(mode);
                    }
                    return Ok(if self.token {
                        credentials.token()
                    } else {
                        credentials
                    });
                }
                Err(error) => error,
            };
            match pauses.next().filter(|_| error.is_unfinished()) {
                Some(pause) => {
                    tracing::debug!(path = %self.path.display(), pause = ?pause, "looks half-written; reading it again");
                    tokio::time::sleep(pause).await;
                }
                None => return Err(error.into_error()),
            }
        }
    }

    async fn read_once(&self) -> Result<FileContents, ReadError> {
        let mut last = Arc::clone(&self.last).lock_owned().await;
        let (format, path) = (self.format.clone(), self.path.clone());
        watch::run_blocking(move || {
            let read = format.read(&path);
            *last = LastRead::from_result(&read);
            read
        })
        .await
    }

    /// Logs, once for this provider, that other users may read the password.
    fn log_open_to_others(&self, mode: u32) {
        if !self.open_to_others_logged.swap(true, Ordering::Relaxed) {
            let path = self.format.secret(&self.path);
            tracing::warn!(path = %path.display(), mode = %format_args!("{mode:04o}"), "file readable by other users; chmod 0600, or defaultMode: 0400 in Kubernetes");
        }
    }

    /// Whether the files have changed since the last fetch read them; `false` before the first one,
    /// which is still to read them.
    ///
    /// Compares what they hold: a file written twice within a tick of the file system's clock has
    /// the same times and the same length.
    async fn has_changed_since_the_last_fetch(&self) -> bool {
        let last = Arc::clone(&self.last).lock_owned().await;
        if matches!(*last, LastRead::Nothing) {
            return false;
        }
        let (format, path) = (self.format.clone(), self.path.clone());
        watch::run_blocking(move || {
            last.is_superseded_by(&LastRead::from_result(&format.read(&path)))
        })
        .await
    }
}

impl Provider for FileProvider {
    type Secret = Credentials;

    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let credentials = self.read().await?;
        let revision = revision::digest(&credentials)?;
        match request.held {
            Some(held) if held.revision() == &revision => Ok(Fetched::Unchanged),
            _ => Ok(Lease::new(credentials, revision)
                .with_old_connections(self.old_connections)
                .with_refresh_after(self.poll)
                .into()),
        }
    }

    async fn watch(&self, hints: Hints) {
        if self.fault.is_some() {
            return std::future::pending().await;
        }
        watch::watch_paths(
            self.format.watched(&self.path),
            self.poll,
            self.has_changed_since_the_last_fetch(),
            hints,
        )
        .await
    }
}

impl fmt::Debug for FileProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileLogin")
            .field("path", &self.path)
            .field("format", &self.format)
            .field("poll", &self.poll)
            .field("token", &self.token)
            .field("old_connections", &self.old_connections)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

fn check_key(argument: &str, key: &str, format: &Format) -> Result<(), ProviderError> {
    check_text(argument, key)?;
    match format {
        Format::Json { .. } => Ok(()),
        Format::Directory { .. } => {
            let mut components = Path::new(key).components();
            match (components.next(), components.next()) {
                (Some(Component::Normal(name)), None) if name == key => Ok(()),
                _ => Err(misconfigured(
                    argument,
                    "must be the name of a file in the directory, without a path",
                )),
            }
        }
        Format::Url => Err(misconfigured(
            argument,
            "means nothing for a URL; leave it out",
        )),
        Format::Password { .. } => Err(misconfigured(
            argument,
            "means nothing for a lone password; leave it out",
        )),
    }
}

fn check_text(argument: &str, text: &str) -> Result<(), ProviderError> {
    if text.is_empty() {
        return Err(misconfigured(argument, "is empty; give a name"));
    }
    if text.contains('\0') {
        return Err(misconfigured(argument, "has a NUL character; leave it out"));
    }
    Ok(())
}

fn misconfigured(argument: &str, problem: &str) -> ProviderError {
    ProviderError::new(
        ProviderErrorKind::Misconfigured,
        format!("`{argument}` {problem}"),
    )
}
