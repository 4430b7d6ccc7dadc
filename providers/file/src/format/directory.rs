//! A directory with a file for the user and one for the password, read as one.
//!
//! The kubelet writes every version of a secret into its own directory. Then it moves the link
//! `..data` to that directory. The visible files are links through `..data`: reading one after the
//! other may pair two versions. Here the link is resolved once and both files are read from its
//! target.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use claviger::Credentials;

use crate::read_error::ReadError;
use crate::read_file;
use crate::watch::Stamp;

/// The link that the kubelet moves from one version to the next.
pub(super) const VERSION_LINK: &str = "..data";

/// Most reads of a directory that changes while it is read, in one fetch.
const MAX_READS: u32 = 5;

/// Stamps of both files.
type Stamps = [Option<Stamp>; 2];

/// Credentials, and the permissions of the password file if other users may read it.
type ReadPair = (Credentials, Option<u32>);

/// Reads the credentials in `dir`: both files of one version.
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
                // The version may have been removed while it was resolved.
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
            // Both files are of one version, which is no longer the newest. It is returned if the
            // version changes during the remaining reads, too.
            last = Some(pair);
        }
    }
    last.unwrap_or_else(|| {
        Err(
            ReadError::unavailable(dir, "kept changing while it was read; check what writes it")
                .unfinished(),
        )
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

/// Resolves the directory of the current version.
fn current_version(dir: &Path) -> Result<PathBuf, ReadError> {
    let io = |error| ReadError::io(dir, "a directory with the credential files", error);
    check_is_directory(dir, dir)?;
    let link = dir.join(VERSION_LINK);
    let version = match fs::symlink_metadata(&link) {
        // A dangling link may be moved soon.
        Ok(_) => fs::canonicalize(&link).map_err(|error| io(error).unfinished()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::canonicalize(dir).map_err(io),
        Err(error) => Err(io(error)),
    }?;
    check_is_directory(dir, &version)?;
    Ok(version)
}

/// Returns an error if `path` exists and is no directory. Messages name `dir`.
fn check_is_directory(dir: &Path, path: &Path) -> Result<(), ReadError> {
    let problem = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            "is a file; set its directory, or the format \"json\", \"url\" or \"password\""
        }
        Ok(metadata) if !metadata.is_dir() => "is a pipe, socket or device; set a directory",
        _ => return Ok(()),
    };
    Err(ReadError::misconfigured(dir, problem))
}
