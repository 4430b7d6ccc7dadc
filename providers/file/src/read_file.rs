//! Reads one regular file of text, up to a limit.

#[cfg(unix)]
use std::fs::OpenOptions;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::Path;

use crate::read_error::ReadError;

/// Longest file that is read, in bytes.
pub(crate) const MAX_LENGTH: usize = 64 * 1024;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Text of a file, and whether other users may read it.
#[derive(Debug)]
pub(crate) struct FileText {
    /// Content without a byte order mark.
    pub(crate) text: String,
    /// Permissions of the file, if other users may read it.
    pub(crate) open_to_others: Option<u32>,
}

/// Reads a regular file of at most [`MAX_LENGTH`] bytes. Blocks only while the file system does.
pub(crate) fn read_text(path: &Path) -> Result<FileText, ReadError> {
    let io = |error| ReadError::io(path, "a file", error);
    // Checked before it is opened, because opening a device may have effects.
    check_is_file(path, &fs::metadata(path).map_err(io)?)?;
    read_opened(path, open(path).map_err(io)?)
}

/// Reads the opened file. Another file may be at `path` by now.
fn read_opened(path: &Path, file: File) -> Result<FileText, ReadError> {
    let io = |error| ReadError::io(path, "a file", error);
    let metadata = file.metadata().map_err(io)?;
    // Another file may have replaced it before it was opened.
    check_is_file(path, &metadata)?;
    let mut content = Vec::new();
    // Limited while reading, because the file may grow meanwhile.
    file.take(MAX_LENGTH as u64 + 1)
        .read_to_end(&mut content)
        .map_err(io)?;
    if content.len() > MAX_LENGTH {
        return Err(ReadError::malformed(
            path,
            "is longer than 64 KiB; set the path of the file with the credentials alone",
        ));
    }
    if content.is_empty() {
        return Err(empty(path));
    }
    // A byte order mark, which some editors write, is no part of the text.
    if content.starts_with(BYTE_ORDER_MARK) {
        content.drain(..BYTE_ORDER_MARK.len());
    }
    let text = String::from_utf8(content).map_err(|error| {
        let error = error.utf8_error();
        let failed = ReadError::malformed(
            path,
            &format!(
                "is not UTF-8 at byte {}; write it as UTF-8 text",
                error.valid_up_to()
            ),
        );
        // The end of the file truncates a character.
        if error.error_len().is_none() {
            failed.unfinished()
        } else {
            failed
        }
    })?;
    Ok(FileText {
        text,
        open_to_others: open_to_others(&metadata),
    })
}

/// Opens without waiting, because opening a FIFO would wait for a writer.
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
    File::open(path)
}

/// Returns the permissions if other users may read the file: all users, or the group if the file
/// belongs to this process's user. If it belongs to another user, this process reads it by its
/// group, as with `fsGroup` in Kubernetes.
#[cfg(unix)]
fn open_to_others(metadata: &Metadata) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let mode = metadata.mode() & 0o777;
    let by_all = mode & 0o004 != 0;
    let by_group = mode & 0o040 != 0
        && fs::metadata("/proc/self").is_ok_and(|process| process.uid() == metadata.uid());
    (by_all || by_group).then_some(mode)
}

#[cfg(not(unix))]
fn open_to_others(_about: &Metadata) -> Option<u32> {
    None
}

/// Reads a file that contains one value. One newline at its end is not part of the value. Other
/// white space is.
pub(crate) fn read_value(path: &Path) -> Result<FileText, ReadError> {
    let FileText {
        mut text,
        open_to_others,
    } = read_text(path)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err(empty(path));
    }
    Ok(FileText {
        text: without_nul(path, "the content", text)?,
        open_to_others,
    })
}

/// Returns the value, or an error if it has a NUL: database protocols end a text at it.
pub(crate) fn without_nul(path: &Path, what: &str, value: String) -> Result<String, ReadError> {
    if value.contains('\0') {
        return Err(ReadError::malformed(
            path,
            &format!("{what} has a NUL character; databases accept none"),
        ));
    }
    Ok(value)
}

fn check_is_file(path: &Path, metadata: &Metadata) -> Result<(), ReadError> {
    if metadata.is_dir() {
        return Err(ReadError::misconfigured(
            path,
            "is a directory; set the path of a file in it, or the format \"directory\"",
        ));
    }
    if !metadata.is_file() {
        return Err(ReadError::misconfigured(
            path,
            "is a pipe, socket or device; set the path of a regular file",
        ));
    }
    Ok(())
}

fn empty(path: &Path) -> ReadError {
    ReadError::malformed(
        path,
        "is empty; write the credentials into another file and rename it to this one",
    )
    .unfinished()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    fn written(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("value");
        fs::write(&path, content).unwrap();
        (dir, path)
    }

    #[test]
    fn one_newline_at_the_end_is_not_part_of_a_value() {
        for (content, expected) in [
            ("s3cret", "s3cret"),
            ("s3cret\n", "s3cret"),
            ("s3cret\r\n", "s3cret"),
            ("s3cret\n\n", "s3cret\n"),
            ("s3cret\r\n\r\n", "s3cret\r\n"),
            ("s3cret\r", "s3cret\r"),
            (" s3 cret \t\n", " s3 cret \t"),
            ("\ns3cret", "\ns3cret"),
            ("\u{feff}s3cret\n", "s3cret"),
        ] {
            let (_dir, path) = written(content.as_bytes());
            assert_eq!(read_value(&path).unwrap().text, expected, "{content:?}");
        }
    }

    #[test]
    fn a_file_of_64_kib_is_read_and_a_longer_one_is_an_error() {
        let (_dir, path) = written("x".repeat(MAX_LENGTH).as_bytes());
        assert_eq!(read_text(&path).unwrap().text.len(), MAX_LENGTH);
        let (_dir, path) = written("x".repeat(MAX_LENGTH + 1).as_bytes());
        assert!(!read_text(&path).unwrap_err().is_unfinished());
    }

    #[cfg(unix)]
    #[test]
    fn a_fifo_that_replaced_the_file_is_opened_without_waiting_and_not_read() {
        let (_dir, path) = written(b"s3cret");
        let metadata = fs::metadata(&path).unwrap();
        check_is_file(&path, &metadata).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&path)
                .status()
                .unwrap()
                .success()
        );
        let (sender, opened) = std::sync::mpsc::channel();
        let fifo = path.clone();
        // The test does not wait for this thread, because it may hang.
        std::thread::spawn(move || sender.send(open(&fifo)));
        let file = opened
            .recv_timeout(std::time::Duration::from_secs(10))
            .unwrap()
            .unwrap();
        let problem = read_opened(&path, file)
            .unwrap_err()
            .into_provider_error()
            .to_string();
        assert!(problem.contains("is a pipe, socket or device"), "{problem}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_is_open_to_others_if_all_users_or_the_owners_group_may_read_it() {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        let (_dir, path) = written(b"s3cret");
        let open_to = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            read_text(&path).unwrap().open_to_others
        };
        for mode in [0o400, 0o600, 0o700, 0o620] {
            assert_eq!(open_to(mode), None, "{mode:o}");
        }
        for mode in [0o440, 0o640, 0o644, 0o444, 0o604] {
            assert_eq!(open_to(mode), Some(mode), "{mode:o}");
        }
        // Only root can change the owner.
        if chown(&path, Some(65_534), None).is_ok() {
            assert_eq!(
                (open_to(0o440), open_to(0o444)),
                (None, Some(0o444)),
                "of another user"
            );
        }
    }

    #[test]
    fn a_truncated_character_is_unfinished_and_an_invalid_byte_is_not() {
        let (_dir, path) = written("pass\u{e9}".as_bytes().split_last().unwrap().1);
        assert!(read_text(&path).unwrap_err().is_unfinished());
        let (_dir, path) = written(b"pass\xff!");
        assert!(!read_text(&path).unwrap_err().is_unfinished());
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(64)
        })]

        #[test]
        fn a_value_is_read_as_written(content in "[^\0\u{feff}]{0,40}[^\0\r\n\u{feff}]") {
            let (_dir, path) = written(content.as_bytes());
            prop_assert_eq!(read_value(&path).unwrap().text, content.clone());
            for newline in ["\n", "\r\n"] {
                fs::write(&path, format!("{content}{newline}")).unwrap();
                prop_assert_eq!(read_value(&path).unwrap().text, content.clone());
            }
        }
    }
}
