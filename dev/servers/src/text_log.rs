//! A file that a server adds lines to, and that a test reads meanwhile.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The lines of such a file from some point on, read anew by each method. A line that is
/// only half written is not there yet.
#[derive(Clone, Debug)]
pub(crate) struct TextLog {
    file: PathBuf,
    skip: usize,
}

impl TextLog {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file, skip: 0 }
    }

    /// The same without what is in it already.
    pub(crate) fn since_now(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.clone(),
            skip: self.whole_lines()?.len(),
        })
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn text(&self) -> io::Result<String> {
        let bytes = self.whole_lines()?;
        let new = bytes.get(self.skip..).unwrap_or_default();
        // Servers log the bytes of names as they came.
        Ok(String::from_utf8_lossy(new).into_owned())
    }

    /// Returns how many lines contain this text.
    pub(crate) fn count(&self, needle: &str) -> io::Result<usize> {
        Ok(self
            .text()?
            .lines()
            .filter(|line| line.contains(needle))
            .count())
    }

    /// The last lines, for the message of an error. What hinders reading them becomes the
    /// text.
    pub(crate) fn tail(&self, lines: usize) -> String {
        match self.text() {
            Ok(text) => {
                let all: Vec<&str> = text.lines().collect();
                all[all.len().saturating_sub(lines)..].join("\n")
            }
            Err(error) => format!("{}: {error}", self.file.display()),
        }
    }

    /// What has been written, up to the last line break.
    fn whole_lines(&self) -> io::Result<Vec<u8>> {
        let mut bytes = fs::read(&self.file)?;
        let end = bytes
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |last| last + 1);
        bytes.truncate(end);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn log() -> (tempfile::TempDir, File, TextLog) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        let file = File::create(&path).unwrap();
        (folder, file, TextLog::new(path))
    }

    #[test]
    fn a_line_counts_once_it_is_whole() {
        let (_folder, mut file, log) = log();
        write!(file, "o").unwrap();
        assert_eq!(log.count("o").unwrap(), 0);
        let since = log.since_now().unwrap();
        writeln!(file, "ne").unwrap();
        assert_eq!(log.count("one").unwrap(), 1);
        assert_eq!(since.text().unwrap(), "one\n");
        assert_eq!(since.since_now().unwrap().text().unwrap(), "");
    }

    #[test]
    fn the_tail_is_at_most_what_there_is() {
        let (_folder, mut file, log) = log();
        write!(file, "one\ntwo\nthree\nfou").unwrap();
        assert_eq!(log.tail(2), "two\nthree");
        assert_eq!(log.tail(9), "one\ntwo\nthree");
    }

    #[test]
    fn a_log_that_is_gone_is_an_error_and_not_a_zero() {
        let (folder, mut file, log) = log();
        writeln!(file, "one").unwrap();
        let since = log.since_now().unwrap();
        drop(folder);
        since.text().unwrap_err();
        log.count("one").unwrap_err();
    }
}
