//! A file to which a server appends lines while a test reads it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The lines of a log from some point on, read again by each method. Incomplete lines are ignored.
#[derive(Clone, Debug)]
pub(crate) struct TextLog {
    file: PathBuf,
    skip: usize,
}

impl TextLog {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file, skip: 0 }
    }

    /// Returns the same log without its present content.
    pub(crate) fn since_now(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.clone(),
            skip: self.complete_lines()?.len(),
        })
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn text(&self) -> io::Result<String> {
        let bytes = self.complete_lines()?;
        let new = bytes.get(self.skip..).unwrap_or_default();
        // Servers log names as they receive them, which need not be UTF-8.
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

    /// Returns whether a line contains this text; not if the log cannot be read.
    pub(crate) fn contains(&self, needle: &str) -> bool {
        self.count(needle).is_ok_and(|lines| lines > 0)
    }

    /// Returns the last lines, for an error's message. If they cannot be read, returns that error's
    /// text.
    pub(crate) fn tail(&self, lines: usize) -> String {
        match self.text() {
            Ok(text) => {
                let lines_so_far: Vec<&str> = text.lines().collect();
                lines_so_far[lines_so_far.len().saturating_sub(lines)..].join("\n")
            }
            Err(error) => format!("{}: {error}", self.file.display()),
        }
    }

    /// Returns the content up to the last line break.
    fn complete_lines(&self) -> io::Result<Vec<u8>> {
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
    fn an_incomplete_line_is_not_counted() {
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
    fn the_tail_of_a_short_log_is_the_log() {
        let (_folder, mut file, log) = log();
        write!(file, "one\ntwo\nthree\nfou").unwrap();
        assert_eq!(log.tail(2), "two\nthree");
        assert_eq!(log.tail(9), "one\ntwo\nthree");
    }

    #[test]
    fn a_missing_log_is_an_error() {
        let (folder, mut file, log) = log();
        writeln!(file, "one").unwrap();
        let since = log.since_now().unwrap();
        drop(folder);
        since.text().unwrap_err();
        log.count("one").unwrap_err();
    }
}
