//! The user that a server runs as.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};

/// Users to drop to, in order of preference: `postgres` comes with the Debian package,
/// `nobody` is everywhere.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// A user and its main group, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// Returns the user to drop to; `None` unless this process runs as root, which PostgreSQL does
    /// not allow.
    pub(crate) fn to_drop_to() -> io::Result<Option<Self>> {
        if !is_root()? {
            return Ok(None);
        }
        for name in CANDIDATES {
            if let (Ok(uid), Ok(gid)) = (id(&["-u", name]), id(&["-g", name])) {
                return Ok(Some(Self { uid, gid }));
            }
        }
        Err(io::Error::other(format!(
            "running as root, and none of the users {} exists to run the server as",
            CANDIDATES.join(", ")
        )))
    }
}

/// Makes the server's user the owner of a file or folder.
pub(crate) fn change_owner(account: Option<Account>, path: &Path) -> io::Result<()> {
    match account {
        Some(Account { uid, gid }) => chown(path, Some(uid), Some(gid)),
        None => Ok(()),
    }
}

/// Writes a new file that only the server's user can read.
pub(crate) fn write_for(account: Option<Account>, file: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?
        .write_all(text.as_bytes())?;
    change_owner(account, file)
}

/// Returns whether this process runs as root.
pub(crate) fn is_root() -> io::Result<bool> {
    Ok(id(&["-u"])? == 0)
}

/// Runs the program `id`, because std has no call for it and libc needs `unsafe`.
fn id(arguments: &[&str]) -> io::Result<u32> {
    let output = Command::new("id")
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()?;
    let output = String::from_utf8_lossy(&output.stdout);
    output.trim().parse().map_err(|_| {
        io::Error::other(format!(
            "`id {}` returned {:?}",
            arguments.join(" "),
            output.trim()
        ))
    })
}
