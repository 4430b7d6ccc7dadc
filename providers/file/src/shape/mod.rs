//! The four shapes in which a login is found in files.

mod directory;
mod json;
mod url;

use std::path::{Path, PathBuf};

use claviger::Login;

use crate::flaw::Flaw;
use crate::read;

/// How a login is laid out. Its `Debug` shows names and the given user, never content.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// A JSON object. Without a key for the user: `username`, else `user`.
    Json { user_key: Option<String>, password_key: String },
    /// A directory with a file for the user and one for the password.
    Directory { user_file: String, password_file: String },
    /// A connection URL.
    Url,
    /// The password alone.
    Password { user: String },
}

impl Shape {
    /// Reads the login at `path`. Blocks.
    pub(crate) fn read(&self, path: &Path) -> Result<Login, Flaw> {
        match self {
            Self::Json { user_key, password_key } => json::login(path, &read::text(path)?, user_key.as_deref(), password_key),
            Self::Directory { user_file, password_file } => directory::login(path, user_file, password_file),
            Self::Url => url::login(path, &read::text(path)?),
            Self::Password { user } => Ok(Login::new(user.as_str(), read::value(path)?)),
        }
    }

    /// Every path that a change of the login shows at.
    pub(crate) fn watched(&self, path: &Path) -> Vec<PathBuf> {
        match self {
            Self::Directory { user_file, password_file } => {
                let versions = path.join(directory::VERSION_LINK);
                [path, versions.as_path()].iter().flat_map(|dir| [dir.join(user_file), dir.join(password_file)]).collect()
            }
            Self::Json { .. } | Self::Url | Self::Password { .. } => vec![path.to_owned()],
        }
    }
}
