//! The four shapes in which a credentials is found in files.

mod directory;
mod json;
mod url;

use std::path::{Path, PathBuf};

use claviger::Credentials;

use crate::read_error::ReadError;
use crate::read_file;

/// How a credentials is laid out. Its `Debug` shows names and the given user, never content.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    /// A JSON object. Without a key for the user: `username`, else `user`.
    Json {
        user_key: Option<String>,
        password_key: String,
    },
    /// A directory with a file for the user and one for the password.
    Directory {
        user_file: String,
        password_file: String,
    },
    /// A connection URL.
    Url,
    /// The password alone.
    Password { user: String },
}

/// What was read.
pub(crate) struct FileContents {
    pub(crate) credentials: Credentials,
    /// The permissions of the file that holds the password, where they let other users read it.
    pub(crate) open_to_others: Option<u32>,
}

impl Format {
    /// Reads the credentials at `path`. Blocks.
    pub(crate) fn read(&self, path: &Path) -> Result<FileContents, ReadError> {
        let (credentials, open_to_others) = match self {
            Self::Json {
                user_key,
                password_key,
            } => {
                let content = read_file::read_text(path)?;
                (
                    json::parse(path, &content.text, user_key.as_deref(), password_key)?,
                    content.open_to_others,
                )
            }
            Self::Directory {
                user_file,
                password_file,
            } => directory::read(path, user_file, password_file)?,
            Self::Url => {
                let content = read_file::read_text(path)?;
                (url::parse(path, &content.text)?, content.open_to_others)
            }
            Self::Password { user } => {
                let content = read_file::read_value(path)?;
                (
                    Credentials::new(user.as_str(), content.text),
                    content.open_to_others,
                )
            }
        };
        Ok(FileContents {
            credentials,
            open_to_others,
        })
    }

    /// The path of the file that holds the password.
    pub(crate) fn secret(&self, path: &Path) -> PathBuf {
        match self {
            Self::Directory { password_file, .. } => path.join(password_file),
            Self::Json { .. } | Self::Url | Self::Password { .. } => path.to_owned(),
        }
    }

    /// Every path that a change of the credentials shows at.
    pub(crate) fn watched(&self, path: &Path) -> Vec<PathBuf> {
        match self {
            Self::Directory {
                user_file,
                password_file,
            } => {
                let versions = path.join(directory::VERSION_LINK);
                [path, versions.as_path()]
                    .iter()
                    .flat_map(|dir| [dir.join(user_file), dir.join(password_file)])
                    .collect()
            }
            Self::Json { .. } | Self::Url | Self::Password { .. } => vec![path.to_owned()],
        }
    }
}
