//! The server's log: rejected and accepted logins.

use std::io;
use std::path::{Path, PathBuf};

use crate::text_log::TextLog;

/// Rejections of passwords, and of tokens, which PAM verifies.
const REJECTED: [&str; 2] = [
    "FATAL:  password authentication failed for user ",
    "FATAL:  PAM authentication failed for user ",
];
/// Includes the word `identity`, because servers from version 16 on write a similar line for the
/// superuser without authentication.
const AUTHENTICATED: &str = "connection authenticated: identity=";

/// The server's log, read again by each method.
///
/// The server logs a login before it responds to the client. A count is therefore exact as soon as
/// the client has the response. Incomplete lines are not counted.
///
/// Each method fails if the log cannot be read: a count of zero always means none.
#[derive(Clone, Debug)]
pub struct PostgresLog(TextLog);

impl PostgresLog {
    pub(super) fn new(file: PathBuf) -> Self {
        Self(TextLog::new(file))
    }

    /// Returns the same log without its present content, to count the effect of one step.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn from_now(&self) -> io::Result<Self> {
        self.0.since_now().map(Self)
    }

    /// Returns the file. It is deleted with the server.
    pub fn file(&self) -> &Path {
        self.0.file()
    }

    /// Returns how many lines contain this text.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn count(&self, needle: &str) -> io::Result<usize> {
        self.0.count(needle)
    }

    /// Returns how many logins were rejected for their password or token, or for an unknown user.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn rejected_logins(&self) -> io::Result<usize> {
        let text = self.0.text()?;
        Ok(REJECTED
            .iter()
            .map(|rejected| text.matches(rejected).count())
            .sum())
    }

    /// Returns how many logins of this user were rejected for the password or token.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn rejected_logins_of(&self, user: &str) -> io::Result<usize> {
        let text = self.0.text()?;
        Ok(REJECTED
            .iter()
            .map(|rejected| {
                text.matches(&format!("{rejected}\"{}\"\n", as_logged(user)))
                    .count()
            })
            .sum())
    }

    /// Returns how many logins were accepted after authentication. Those of the superuser over the
    /// socket are not included.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn authenticated_logins(&self) -> io::Result<usize> {
        self.count(AUTHENTICATED)
    }

    /// Returns how many logins of this user were accepted after authentication by password or
    /// token.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn authenticated_logins_of(&self, user: &str) -> io::Result<usize> {
        let start = format!("{AUTHENTICATED}\"{}\" method=", as_logged(user));
        Ok(self.0.text()?.matches(&start).count())
    }

    /// Returns the last lines, for a failed test's message. If they cannot be read, returns that
    /// error's text.
    pub fn tail(&self, lines: usize) -> String {
        self.0.tail(lines)
    }
}

/// Returns a name as the log writes it: continued lines are indented by a tab.
fn as_logged(name: &str) -> String {
    name.replace('\n', "\n\t")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn log() -> (tempfile::TempDir, File, PostgresLog) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        let file = File::create(&path).unwrap();
        (folder, file, PostgresLog::new(path))
    }

    #[test]
    fn a_line_is_counted_when_it_is_complete() {
        let (_folder, mut file, log) = log();
        write!(file, "FATAL:  password authentication failed for user \"a").unwrap();
        assert_eq!(log.rejected_logins().unwrap(), 0);
        let since = log.from_now().unwrap();
        writeln!(file, "pp\"").unwrap();
        assert_eq!(log.rejected_logins_of("app").unwrap(), 1);
        assert_eq!(since.rejected_logins().unwrap(), 1);
        assert_eq!(since.from_now().unwrap().rejected_logins().unwrap(), 0);
    }

    #[test]
    fn a_name_is_distinguished_from_a_name_that_contains_it() {
        let (_folder, mut file, log) = log();
        for name in ["app", "app2", "my app", "a \"b\"", "a\n\tpp"] {
            writeln!(
                file,
                "FATAL:  password authentication failed for user \"{name}\""
            )
            .unwrap();
            writeln!(
                file,
                "FATAL:  PAM authentication failed for user \"{name}\""
            )
            .unwrap();
            writeln!(
                file,
                "LOG:  connection authenticated: identity=\"{name}\" method=md5 (x:1)"
            )
            .unwrap();
        }
        for name in ["app", "app2", "my app", "a \"b\"", "a\npp"] {
            assert_eq!(log.rejected_logins_of(name).unwrap(), 2, "{name}");
            assert_eq!(log.authenticated_logins_of(name).unwrap(), 1, "{name}");
        }
        assert_eq!(log.rejected_logins().unwrap(), 10);
        assert_eq!(log.authenticated_logins().unwrap(), 5);
    }
}
