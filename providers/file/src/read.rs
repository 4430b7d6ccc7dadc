//! Reading one file: bounded, regular files only, text only.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::Path;

use crate::flaw::Flaw;

/// No login is longer; whatever is longer is another file.
pub(crate) const LIMIT: usize = 64 * 1024;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The whole text of a regular file of at most [`LIMIT`] bytes. Blocks.
pub(crate) fn text(path: &Path) -> Result<String, Flaw> {
    let io = |error| Flaw::io(path, "a file", error);
    // Before it is opened: opening a FIFO waits for a writer.
    check_is_file(path, &fs::metadata(path).map_err(io)?)?;
    let file = File::open(path).map_err(io)?;
    // And after: another may have taken its place.
    check_is_file(path, &file.metadata().map_err(io)?)?;
    let mut content = Vec::new();
    file.take(LIMIT as u64 + 1).read_to_end(&mut content).map_err(io)?;
    if content.len() > LIMIT {
        return Err(Flaw::malformed(path, "is longer than 64 KiB; give the file that holds the login alone"));
    }
    if content.is_empty() {
        return Err(empty(path));
    }
    // A byte order mark, which some editors write, is no part of the text.
    if content.starts_with(BYTE_ORDER_MARK) {
        content.drain(..BYTE_ORDER_MARK.len());
    }
    String::from_utf8(content).map_err(|error| {
        let error = error.utf8_error();
        let flaw = Flaw::malformed(path, &format!("is not UTF-8 at byte {}; write it as UTF-8 text", error.valid_up_to()));
        // A character cut short by the end of the file.
        if error.error_len().is_none() { flaw.unfinished() } else { flaw }
    })
}

/// The text of a file that holds one value: one newline at its end is not part of it, other white space is.
pub(crate) fn value(path: &Path) -> Result<String, Flaw> {
    let mut text = text(path)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err(empty(path));
    }
    without_nul(path, "the content", text)
}

/// Refuses a NUL: the protocols of databases end a text at it.
pub(crate) fn without_nul(path: &Path, what: &str, value: String) -> Result<String, Flaw> {
    if value.contains('\0') {
        return Err(Flaw::malformed(path, &format!("{what} has a NUL character; no database takes one")));
    }
    Ok(value)
}

fn check_is_file(path: &Path, about: &Metadata) -> Result<(), Flaw> {
    if about.is_dir() {
        return Err(Flaw::misconfigured(path, "is a directory; give the path of a file in it, or use `FileLogin::directory`"));
    }
    if !about.is_file() {
        return Err(Flaw::misconfigured(path, "is a pipe, socket or device; give the path of a regular file"));
    }
    Ok(())
}

fn empty(path: &Path) -> Flaw {
    Flaw::malformed(path, "is empty; write the login there, best into another file that is then renamed to this one").unfinished()
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
            assert_eq!(value(&path).unwrap(), expected, "{content:?}");
        }
    }

    #[test]
    fn the_limit_is_exact() {
        let (_dir, path) = written("x".repeat(LIMIT).as_bytes());
        assert_eq!(text(&path).unwrap().len(), LIMIT);
        let (_dir, path) = written("x".repeat(LIMIT + 1).as_bytes());
        assert!(!text(&path).unwrap_err().is_unfinished());
    }

    #[test]
    fn a_character_cut_short_is_unfinished_and_a_wrong_byte_is_not() {
        let (_dir, path) = written("pass\u{e9}".as_bytes().split_last().unwrap().1);
        assert!(text(&path).unwrap_err().is_unfinished());
        let (_dir, path) = written(b"pass\xff!");
        assert!(!text(&path).unwrap_err().is_unfinished());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        #[test]
        fn a_value_is_read_as_written(content in "[^\0\u{feff}]{0,40}[^\0\r\n\u{feff}]") {
            let (_dir, path) = written(content.as_bytes());
            prop_assert_eq!(value(&path).unwrap(), content.clone());
            for newline in ["\n", "\r\n"] {
                fs::write(&path, format!("{content}{newline}")).unwrap();
                prop_assert_eq!(value(&path).unwrap(), content.clone());
            }
        }
    }
}
