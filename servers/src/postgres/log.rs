//! The server's log as an oracle: who was let in, who was not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const REFUSED: &str = "FATAL:  password authentication failed for user ";
/// With the word `identity`: servers from version 16 on also write such a line for the
/// superuser who comes in without authentication.
const AUTHENTICATED: &str = "connection authenticated: identity=";

/// What the server has written to its log, read anew by each method.
///
/// The server writes the line about a log-in before it answers the client. So a count is
/// exact as soon as the client has its answer, and no waiting is needed. Lines that are
/// only half written are not counted yet.
///
/// Each method fails when the log cannot be read: a count of zero always means none.
#[derive(Clone, Debug)]
pub struct Log {
    file: PathBuf,
    skip: usize,
}

impl Log {
    pub(super) fn of(file: PathBuf) -> Self {
        Self { file, skip: 0 }
    }

    /// The same log without what is in it already, to count what one step of a test
    /// brings about.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn from_now(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.clone(), skip: self.whole_lines()?.len() })
    }

    /// The file. It goes away with the server.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// How many lines contain this text.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn count(&self, needle: &str) -> io::Result<usize> {
        Ok(self.text()?.lines().filter(|line| line.contains(needle)).count())
    }

    /// How many log-ins were refused for their password, or for lack of such a user.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn refused_logins(&self) -> io::Result<usize> {
        self.count(REFUSED)
    }

    /// How many log-ins of this user were refused for the password.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn refused_logins_of(&self, user: &str) -> io::Result<usize> {
        let line = format!("{REFUSED}\"{}\"\n", as_logged(user));
        Ok(self.text()?.matches(&line).count())
    }

    /// How many log-ins were let in after authentication. The superuser's own over the
    /// socket are not among them.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn authenticated_logins(&self) -> io::Result<usize> {
        self.count(AUTHENTICATED)
    }

    /// How many log-ins of this user were let in after authentication by password.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn authenticated_logins_of(&self, user: &str) -> io::Result<usize> {
        let start = format!("{AUTHENTICATED}\"{}\" method=", as_logged(user));
        Ok(self.text()?.matches(&start).count())
    }

    /// The last lines, for the message of a test that fails. What hinders reading them
    /// becomes the text.
    pub fn tail(&self, lines: usize) -> String {
        match self.text() {
            Ok(text) => {
                let all: Vec<&str> = text.lines().collect();
                all[all.len().saturating_sub(lines)..].join("\n")
            }
            Err(error) => format!("{}: {error}", self.file.display()),
        }
    }

    fn text(&self) -> io::Result<String> {
        let bytes = self.whole_lines()?;
        let new = bytes.get(self.skip..).unwrap_or_default();
        // PostgreSQL logs the bytes of names as they came.
        Ok(String::from_utf8_lossy(new).into_owned())
    }

    /// What has been written, up to the last line break.
    fn whole_lines(&self) -> io::Result<Vec<u8>> {
        let mut bytes = fs::read(&self.file)?;
        let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        bytes.truncate(end);
        Ok(bytes)
    }
}

/// A name as it stands in the log: a line that goes on is indented by a tab.
fn as_logged(name: &str) -> String {
    name.replace('\n', "\n\t")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn log() -> (tempfile::TempDir, File, Log) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        let file = File::create(&path).unwrap();
        (folder, file, Log::of(path))
    }

    #[test]
    fn a_line_counts_once_it_is_whole() {
        let (_folder, mut file, log) = log();
        write!(file, "FATAL:  password authentication failed for user \"a").unwrap();
        assert_eq!(log.refused_logins().unwrap(), 0);
        let since = log.from_now().unwrap();
        writeln!(file, "pp\"").unwrap();
        assert_eq!(log.refused_logins_of("app").unwrap(), 1);
        assert_eq!(since.refused_logins().unwrap(), 1);
        assert_eq!(since.from_now().unwrap().refused_logins().unwrap(), 0);
    }

    #[test]
    fn one_name_is_not_taken_for_another_that_contains_it() {
        let (_folder, mut file, log) = log();
        for name in ["app", "app2", "my app", "a \"b\"", "a\n\tpp"] {
            writeln!(file, "FATAL:  password authentication failed for user \"{name}\"").unwrap();
            writeln!(file, "LOG:  connection authenticated: identity=\"{name}\" method=md5 (x:1)").unwrap();
        }
        for name in ["app", "app2", "my app", "a \"b\"", "a\npp"] {
            assert_eq!(log.refused_logins_of(name).unwrap(), 1, "{name}");
            assert_eq!(log.authenticated_logins_of(name).unwrap(), 1, "{name}");
        }
        assert_eq!(log.refused_logins().unwrap(), 5);
        assert_eq!(log.authenticated_logins().unwrap(), 5);
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
        let since = log.from_now().unwrap();
        drop(folder);
        since.refused_logins().unwrap_err();
        log.count("one").unwrap_err();
    }
}
