//! A directory with a file for the user and one for the password, read as one.
//!
//! The kubelet writes every version of a secret into a directory of its own and then moves the link
//! `..data` to it. The files that one sees lead through that link, so reading first one and then
//! the other may pair two versions. Here the link is followed once, and both files are read where
//! it led.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use claviger::Credentials;

use crate::read_error::ReadError;
use crate::read_file;
use crate::watch::Stamp;

/// The link that the kubelet moves from one version to the next.
pub(super) const VERSION_LINK: &str = "..data";

/// How often a directory that changes while it is read is read in one go.
const MAX_READS: u32 = 5;

/// Two files as they stand.
type Stamps = [Option<Stamp>; 2];

/// A login, and the permissions of the password's file where they let other users read it.
type ReadPair = (Credentials, Option<u32>);

/// The login in `dir`: both files of one version.
pub(super) fn read(
    dir: &Path,
    user_file: &str,
    password_file: &str,
) -> Result<ReadPair, ReadError> {
    let names = [user_file, password_file];
    let mut last = None;
    for _ in 0..MAX_READS {
        let version = match current_version(dir) {
            Ok(version) => version,
            Err(error) => {
                // The version may have been removed on the way to it.
                last = last.or(Some(Err(error)));
                continue;
            }
        };
        let before = stamps(&version, names);
        let pair = read_pair(&version, names);
        let after = stamps(&version, names);
        let moved = !current_version(dir).is_ok_and(|now| now == version);
        if !moved && before == after {
            return pair;
        }
        if moved
            && pair.is_ok()
            && before
                .iter()
                .zip(&after)
                .all(|(before, after)| after.is_none() || before == after)
        {
            // Of one version, though no longer the newest: good enough if the next reading is
            // overtaken as well.
            last = Some(pair);
        }
    }
    last.unwrap_or_else(|| {
        Err(ReadError::unavailable(dir, "kept changing while it was read").unfinished())
    })
}

fn read_pair(version: &Path, [user_file, password_file]: [&str; 2]) -> Result<ReadPair, ReadError> {
    let user = read_file::read_value(&version.join(user_file))?.text;
    let password = read_file::read_value(&version.join(password_file))?;
    Ok((
        Credentials::new(user, password.text),
        password.open_to_others,
    ))
}

fn stamps(version: &Path, names: [&str; 2]) -> Stamps {
    names.map(|name| Stamp::read(&version.join(name)))
}

/// The directory that holds the current version, without links.
fn current_version(dir: &Path) -> Result<PathBuf, ReadError> {
    let io = |error| ReadError::io(dir, "a directory with the login's files", error);
    let link = dir.join(VERSION_LINK);
    let version = match fs::symlink_metadata(&link) {
        // A link that leads nowhere may lead somewhere in a moment.
        Ok(_) => fs::canonicalize(&link).map_err(|error| io(error).unfinished()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::canonicalize(dir).map_err(io),
        Err(error) => Err(io(error)),
    }?;
    if fs::metadata(&version).is_ok_and(|metadata| !metadata.is_dir()) {
        return Err(ReadError::misconfigured(
            dir,
            "is no directory; give the directory, or use another constructor of `FileLogin` for one file",
        ));
    }
    Ok(version)
}
