//! Formats of files with credentials.

mod directory;
mod json;
mod url;

use std::path::{Component, Path, PathBuf};

use claviger::Credentials;
use claviger::error::ProviderError;

use crate::builder::misconfigured;
use crate::read_error::ReadError;
use crate::read_file;

/// Format of a file, or a directory of files, with credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileFormat {
    /// A JSON object with `username` (or `user`) and `password`. The endpoint is optional: `host`,
    /// `port` (a number or a numeric string) and `dbname` (or `database`).
    ///
    /// - Without `port`, it is the default port of the `engine`, by AWS's names (`postgres`,
    ///   `mysql` …). Without such an engine, it is the port of the pool's connect options.
    /// - Without `dbname`, it is the database of the pool's connect options.
    /// - Without `host`, the pool's connect options name the endpoint. `port` and `dbname` are
    ///   errors then, because they would have no effect.
    /// - Two names of one field, such as `username` beside `user`, are an error.
    /// - Other keys are ignored. Null counts as missing.
    Json,
    /// A directory with the files `username` and `password`, as Kubernetes mounts a secret.
    ///
    /// Both are read from one version, however often the kubelet moves `..data` meanwhile. Without
    /// `..data` two files cannot be replaced at once. They are read again if one changes while
    /// they are read. The database rejects a half-replaced pair, and the next change replaces it.
    ///
    /// One newline (`\n` or `\r\n`) at the end of a file is not part of it. Other white space is.
    Directory,
    /// A connection URL, `postgres://user:p%40ss@host:5432/database`, also `postgresql://`,
    /// `mysql://` or `mariadb://`.
    ///
    /// All parts but the port are required. The default port is 5432, or 3306 for the latter two.
    /// User, password, host and database are percent-decoded: encode `@ / ? # %` in them.
    /// Parameters after `?` are ignored, because TLS is set in the pool's connect options. White
    /// space around the URL is ignored.
    Url,
    /// The password alone.
    ///
    /// One newline (`\n` or `\r\n`) at its end is not part of it. Other white space is.
    Password {
        /// Database user that the password belongs to.
        user: String,
    },
}

impl FileFormat {
    /// Returns [`FileFormat::Password`] for this database user.
    #[must_use]
    pub fn password(user: impl Into<String>) -> Self {
        Self::Password { user: user.into() }
    }
}

/// Credentials at a path. Its `Debug` form shows names and the given user, never content.
#[derive(Clone, Debug)]
pub(crate) struct CredentialFile {
    path: PathBuf,
    format: FileFormat,
    user_key: Option<String>,
    password_key: Option<String>,
}

/// Content of a credential file.
pub(crate) struct FileContents {
    pub(crate) credentials: Credentials,
    /// Permissions of the file with the password, if other users may read it.
    pub(crate) open_to_others: Option<u32>,
}

impl CredentialFile {
    /// Checks the settings. Reads no file.
    ///
    /// # Errors
    /// `Misconfigured`, naming the setting that is invalid for this format.
    pub(crate) fn new(
        path: PathBuf,
        format: FileFormat,
        user_key: Option<String>,
        password_key: Option<String>,
    ) -> Result<Self, ProviderError> {
        if let FileFormat::Password { user } = &format {
            check_text("user", user)?;
        }
        for (setting, key) in [("user_key", &user_key), ("password_key", &password_key)] {
            if let Some(key) = key {
                check_key(setting, key, &format)?;
            }
        }
        Ok(Self {
            path,
            format,
            user_key,
            password_key,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the credentials. Blocks.
    pub(crate) fn read(&self) -> Result<FileContents, ReadError> {
        let path = &self.path;
        let (credentials, open_to_others) = match &self.format {
            FileFormat::Json => {
                let file = read_file::read_text(path)?;
                let user_key = self.user_key.as_deref();
                let credentials = json::parse(path, &file.text, user_key, self.password_key())?;
                (credentials, file.open_to_others)
            }
            FileFormat::Directory => directory::read(path, self.user_file(), self.password_key())?,
            FileFormat::Url => {
                let file = read_file::read_text(path)?;
                (url::parse(path, &file.text)?, file.open_to_others)
            }
            FileFormat::Password { user } => {
                let file = read_file::read_value(path)?;
                (Credentials::new(user, file.text), file.open_to_others)
            }
        };
        Ok(FileContents {
            credentials,
            open_to_others,
        })
    }

    /// Returns the path of the file that contains the password.
    pub(crate) fn password_path(&self) -> PathBuf {
        match self.format {
            FileFormat::Directory => self.path.join(self.password_key()),
            FileFormat::Json | FileFormat::Url | FileFormat::Password { .. } => self.path.clone(),
        }
    }

    /// Returns every path at which a change of the credentials is visible.
    pub(crate) fn watched_paths(&self) -> Vec<PathBuf> {
        match self.format {
            FileFormat::Directory => {
                let version = self.path.join(directory::VERSION_LINK);
                [&self.path, &version]
                    .iter()
                    .flat_map(|dir| [dir.join(self.user_file()), dir.join(self.password_key())])
                    .collect()
            }
            FileFormat::Json | FileFormat::Url | FileFormat::Password { .. } => {
                vec![self.path.clone()]
            }
        }
    }

    fn user_file(&self) -> &str {
        self.user_key.as_deref().unwrap_or("username")
    }

    fn password_key(&self) -> &str {
        self.password_key.as_deref().unwrap_or("password")
    }
}

fn check_key(setting: &str, key: &str, format: &FileFormat) -> Result<(), ProviderError> {
    let without_keys = |format: &str| {
        let problem = format!("has no effect on {format}; remove it");
        Err(misconfigured(setting, &problem))
    };
    check_text(setting, key)?;
    match format {
        FileFormat::Json => Ok(()),
        FileFormat::Directory => {
            let mut components = Path::new(key).components();
            match (components.next(), components.next()) {
                (Some(Component::Normal(name)), None) if name == key => Ok(()),
                _ => Err(misconfigured(
                    setting,
                    "must be the name of a file in the directory, without a path",
                )),
            }
        }
        FileFormat::Url => without_keys("a URL"),
        FileFormat::Password { .. } => without_keys("a secret that is only a password"),
    }
}

fn check_text(setting: &str, text: &str) -> Result<(), ProviderError> {
    if text.is_empty() {
        return Err(misconfigured(setting, "is empty; set a name"));
    }
    if text.contains('\0') {
        return Err(misconfigured(setting, "has a NUL character; remove it"));
    }
    Ok(())
}
