//! Reads files of secrets and certificates, with a bound.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::path::Path;

/// Longest file of a token, a secret id or a JWT, in bytes.
pub(crate) const MAX_SECRET_FILE: u64 = 64 * 1024;
/// Longest file of certificates, in bytes. The bundle of a system is a quarter of it.
pub(crate) const MAX_CA_FILE: u64 = 1024 * 1024;

/// Reads a regular file of `limit` bytes at most. Never blocks on a FIFO, not even one that
/// replaces the file meanwhile.
///
/// # Errors
/// `InvalidInput` if it is not a regular file, `FileTooLarge`, or the error of the system.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut content = Vec::new();
    // Limited while reading, because the file may grow meanwhile.
    file.take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        Err(io::ErrorKind::FileTooLarge.into())
    } else {
        Ok(content)
    }
}

/// Returns the content without the byte order mark that some editors write in front of UTF-8.
pub(crate) fn strip_bom(content: &[u8]) -> &[u8] {
    content.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(content)
}

#[cfg(unix)]
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

#[cfg(not(unix))]
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

#[cfg(all(test, unix))]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_fifo_a_directory_and_a_long_file_are_errors_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let (fifo, file) = (directory.path().join("fifo"), directory.path().join("file"));
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&fifo)
                .status()
                .unwrap()
                .success()
        );
        std::fs::write(&file, "x".repeat(10)).unwrap();
        let kind = |path: &Path, limit| read_bounded(path, limit).map_err(|error| error.kind());
        assert_eq!(kind(&fifo, 10), Err(io::ErrorKind::InvalidInput));
        assert_eq!(kind(directory.path(), 10), Err(io::ErrorKind::InvalidInput));
        assert_eq!(kind(&file, 9), Err(io::ErrorKind::FileTooLarge));
        assert_eq!(kind(&file, 10).unwrap().len(), 10);
    }
}
