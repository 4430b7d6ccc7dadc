//! Chain of symbolic links from a path to its file, and the state of each entry.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

/// Most links that are followed, as on Linux.
const MAX_LINKS: u32 = 40;

/// State of a file or link. A different stamp means a different file or content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    #[cfg(unix)]
    unix: (Identity, i64, i64),
}

/// Device and inode, which identify a file or directory by any name.
type Identity = (u64, u64);

impl Stamp {
    /// Returns the stamp of the file at `path`, if it exists. Follows links.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        fs::metadata(path)
            .ok()
            .map(|metadata| Self::from(&metadata))
    }
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            // Includes the change time, which changes when a permission is granted.
            #[cfg(unix)]
            unix: (identity(metadata), metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> Identity {
    (0, 0)
}

/// Entries and directories in which a change of some files is visible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SymlinkChain {
    /// Every link of the chain, and the file at its end or the first name that does not exist. Each
    /// is named by the real path of its directory.
    entries: BTreeMap<PathBuf, Option<Stamp>>,
    /// Directories of the entries.
    directories: BTreeMap<PathBuf, Option<Identity>>,
}

impl SymlinkChain {
    /// Follows each of the absolute `paths`. Blocks.
    pub(crate) fn follow_all(paths: &[PathBuf]) -> Self {
        let mut chain = Self::default();
        for path in paths {
            chain.follow(path);
        }
        chain
    }

    /// Returns the directories to watch.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.directories.keys().map(PathBuf::as_path)
    }

    /// Returns whether `path` is an entry or a directory of the chain.
    pub(crate) fn concerns(&self, path: &Path) -> bool {
        self.entries.contains_key(path) || self.is_directory(path)
    }

    /// Returns whether `path` is one of the directories to watch.
    pub(crate) fn is_directory(&self, path: &Path) -> bool {
        self.directories.contains_key(path)
    }

    /// Returns whether both have the same entries and directories. The state of entries may differ.
    pub(crate) fn has_same_paths_as(&self, other: &Self) -> bool {
        self.directories == other.directories && self.entries.keys().eq(other.entries.keys())
    }

    fn follow(&mut self, path: &Path) {
        let mut remaining: VecDeque<Step> = steps(path).collect();
        let mut directory = PathBuf::new();
        let mut links = 0;
        while let Some(step) = remaining.pop_front() {
            let name = match step {
                Step::Root(root) => {
                    directory.push(root);
                    continue;
                }
                Step::Up => {
                    directory.pop();
                    continue;
                }
                Step::Down(name) => name,
            };
            let entry = directory.join(&name);
            let metadata = fs::symlink_metadata(&entry).ok();
            match &metadata {
                Some(found) if found.is_symlink() => {
                    links += 1;
                    self.add_entry(&directory, &entry, metadata.as_ref());
                    let Ok(target) = fs::read_link(&entry) else {
                        return;
                    };
                    if links > MAX_LINKS {
                        return;
                    }
                    // The target comes before the remaining steps.
                    let mut target: VecDeque<Step> = steps(&target).collect();
                    target.append(&mut remaining);
                    remaining = target;
                }
                Some(found) if found.is_dir() && !remaining.is_empty() => directory = entry,
                _ => return self.add_entry(&directory, &entry, metadata.as_ref()),
            }
        }
    }

    fn add_entry(&mut self, directory: &Path, entry: &Path, metadata: Option<&Metadata>) {
        self.entries
            .insert(entry.to_owned(), metadata.map(Stamp::from));
        if !self.directories.contains_key(directory) {
            let identity = fs::metadata(directory).ok().as_ref().map(identity);
            self.directories.insert(directory.to_owned(), identity);
        }
    }
}

enum Step {
    Root(OsString),
    Up,
    Down(OsString),
}

fn steps(path: &Path) -> impl Iterator<Item = Step> {
    path.components().filter_map(|component| match component {
        Component::Prefix(_) | Component::RootDir => {
            Some(Step::Root(component.as_os_str().to_owned()))
        }
        Component::CurDir => None,
        Component::ParentDir => Some(Step::Up),
        Component::Normal(name) => Some(Step::Down(name.to_owned())),
    })
}

#[cfg(all(test, unix))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use std::os::unix::fs::symlink;

    /// Makes a temporary directory, and returns its real path.
    fn temp_dir() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(dir.path()).unwrap();
        (dir, path)
    }

    fn entries(path: &Path) -> Vec<PathBuf> {
        SymlinkChain::follow_all(&[path.to_owned()])
            .entries
            .into_keys()
            .collect()
    }

    #[test]
    fn every_link_of_the_chain_is_an_entry() {
        let (_dir, dir) = temp_dir();
        fs::create_dir(dir.join("..v1")).unwrap();
        fs::write(dir.join("..v1/password"), "one").unwrap();
        symlink("..v1", dir.join("..data")).unwrap();
        symlink("..data/password", dir.join("password")).unwrap();
        let expected = [
            dir.join("..data"),
            dir.join("..v1/password"),
            dir.join("password"),
        ];
        assert_eq!(entries(&dir.join("password")), expected);
        let chain = SymlinkChain::follow_all(&[dir.join("password")]);
        assert!(
            chain
                .directories()
                .eq([dir.as_path(), dir.join("..v1").as_path()])
        );
        assert!(chain.concerns(&dir.join("..data")) && chain.concerns(&dir));
        assert!(!chain.concerns(&dir.join("other")));
    }

    #[test]
    fn a_missing_directory_is_an_entry_of_its_parent() {
        let (_dir, dir) = temp_dir();
        assert_eq!(
            entries(&dir.join("missing/password")),
            [dir.join("missing")]
        );
    }

    #[test]
    fn a_cycle_of_links_ends() {
        let (_dir, dir) = temp_dir();
        symlink("b", dir.join("a")).unwrap();
        symlink("a", dir.join("b")).unwrap();
        assert_eq!(entries(&dir.join("a")), [dir.join("a"), dir.join("b")]);
    }

    #[test]
    fn parent_directories_and_absolute_links_are_followed() {
        let (_dir, dir) = temp_dir();
        fs::create_dir_all(dir.join("x/y")).unwrap();
        fs::write(dir.join("x/password"), "one").unwrap();
        symlink(dir.join("x/y/../password"), dir.join("link")).unwrap();
        assert_eq!(
            entries(&dir.join("./x/../link")),
            [dir.join("link"), dir.join("x/password")]
        );
    }

    #[test]
    fn a_replaced_file_has_another_stamp_in_the_same_chain() {
        let (_dir, dir) = temp_dir();
        let path = dir.join("password");
        fs::write(&path, "one").unwrap();
        let first = SymlinkChain::follow_all(std::slice::from_ref(&path));
        fs::write(dir.join("new"), "two").unwrap();
        fs::rename(dir.join("new"), &path).unwrap();
        let second = SymlinkChain::follow_all(&[path]);
        assert!(second.has_same_paths_as(&first));
        assert_ne!(first, second);
    }
}
