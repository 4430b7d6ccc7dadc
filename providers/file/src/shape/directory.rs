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

use crate::flaw::Flaw;
use crate::read;
use crate::watch::Stamp;

/// The link that the kubelet moves from one version to the next.
pub(super) const VERSION_LINK: &str = "..data";

/// How often a directory that changes while it is read is read in one go.
const READINGS: u32 = 5;

/// Two files as they stand.
type Stamps = [Option<Stamp>; 2];

/// A login, and the permissions of the password's file where they let other users read it.
type Pair = (Credentials, Option<u32>);

/// The login in `dir`: both files of one version.
pub(super) fn login(dir: &Path, user_file: &str, password_file: &str) -> Result<Pair, Flaw> {
    let names = [user_file, password_file];
    let mut last = None;
    for _ in 0..READINGS {
        let version = match version_of(dir) {
            Ok(version) => version,
            Err(flaw) => {
                // The version may have been removed on the way to it.
                last = last.or(Some(Err(flaw)));
                continue;
            }
        };
        let before = stamps(&version, names);
        let pair = pair(&version, names);
        let after = stamps(&version, names);
        let moved = !version_of(dir).is_ok_and(|now| now == version);
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
        Err(Flaw::unavailable(dir, "kept changing while it was read").unfinished())
    })
}

fn pair(version: &Path, [user_file, password_file]: [&str; 2]) -> Result<Pair, Flaw> {
    let user = read::value(&version.join(user_file))?.text;
    let password = read::value(&version.join(password_file))?;
    Ok((
        Credentials::new(user, password.text),
        password.open_to_others,
    ))
}

fn stamps(version: &Path, names: [&str; 2]) -> Stamps {
    names.map(|name| Stamp::of(&version.join(name)))
}

/// The directory that holds the current version, without links.
fn version_of(dir: &Path) -> Result<PathBuf, Flaw> {
    let io = |error| Flaw::io(dir, "a directory with the login's files", error);
    let link = dir.join(VERSION_LINK);
    let version = match fs::symlink_metadata(&link) {
        // A link that leads nowhere may lead somewhere in a moment.
        Ok(_) => fs::canonicalize(&link).map_err(|error| io(error).unfinished()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::canonicalize(dir).map_err(io),
        Err(error) => Err(io(error)),
    }?;
    if fs::metadata(&version).is_ok_and(|about| !about.is_dir()) {
        return Err(Flaw::misconfigured(
            dir,
            "is no directory; give the directory, or use another constructor of `FileLogin` for one file",
        ));
    }
    Ok(version)
}
