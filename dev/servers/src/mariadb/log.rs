//! The server's logs: rejected and accepted logins.

use std::io;
use std::path::{Path, PathBuf};

use super::config::{ERRORS, LOGINS};
use crate::text_log::TextLog;

/// The address of clients over TCP; the superuser over the socket is `localhost`.
const CLIENT: &str = "127.0.0.1";

/// A wrong password or token, an unknown user, or missing TLS; a plugin without a password; a
/// locked account.
const REJECTED: [&str; 3] = ["1045", "1698", "4151"];

/// An example of the date at the start of each line of the errors.
const DATE: &str = "2026-01-02 03:04:05 ";

/// The server's logs, read again by each method.
///
/// The server logs a rejection before it responds to the client, so that count is exact as soon as
/// the client has the response. It logs a login after its response and before the connection's
/// first statement. That count is exact when each client has run a statement, as pools do when they
/// connect. Incomplete lines are not counted.
///
/// Each method fails if a log cannot be read: a count of zero always means none.
#[derive(Clone, Debug)]
pub struct MariaDbLog {
    own: TextLog,
    errors: TextLog,
    logins: TextLog,
}

impl MariaDbLog {
    pub(super) fn in_folder(folder: &Path, own: PathBuf) -> Self {
        Self {
            own: TextLog::new(own),
            errors: TextLog::new(folder.join(ERRORS)),
            logins: TextLog::new(folder.join(LOGINS)),
        }
    }

    /// Returns the same logs without their present content, to count the effect of one step.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn from_now(&self) -> io::Result<Self> {
        Ok(Self {
            own: self.own.since_now()?,
            errors: self.errors.since_now()?,
            logins: self.logins.since_now()?,
        })
    }

    /// Returns the file of the server's own log. It is deleted with the server.
    pub fn file(&self) -> &Path {
        self.own.file()
    }

    /// Returns how many lines of the server's own log contain this text.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn count(&self, needle: &str) -> io::Result<usize> {
        self.own.count(needle)
    }

    /// Returns how many logins over TCP were rejected: wrong password or token, missing TLS,
    /// unknown user, or locked account (errors 1045, 1698 and 4151).
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn rejected_logins(&self) -> io::Result<usize> {
        let text = self.errors.text()?;
        Ok(REJECTED
            .iter()
            .map(|code| {
                text.matches(&format!("] @  [{CLIENT}] ERROR {code}: "))
                    .count()
            })
            .sum())
    }

    /// Returns how many logins of this user were rejected for one of these reasons.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn rejected_logins_of(&self, user: &str) -> io::Result<usize> {
        let text = self.errors.text()?;
        let rejected = |code| {
            let line = format!("[{user}] @  [{CLIENT}] ERROR {code}: ");
            // A user before the bracket means that the connection had logged in already.
            text.match_indices(&line)
                .filter(|&(at, _)| line_before(&text, at).len() == DATE.len())
                .count()
        };
        Ok(REJECTED.into_iter().map(rejected).sum())
    }

    /// Returns how many logins over TCP were accepted.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn authenticated_logins(&self) -> io::Result<usize> {
        let text = self.logins.text()?;
        Ok(logins(&text, &format!(",{CLIENT},")).count())
    }

    /// Returns how many logins of this user were accepted, those with an expired password included.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn authenticated_logins_of(&self, user: &str) -> io::Result<usize> {
        let text = self.logins.text()?;
        // The date and the server's host precede the user.
        let of_user = |&position: &usize| line_before(&text, position).matches(',').count() == 1;
        Ok(logins(&text, &format!(",{user},{CLIENT},"))
            .filter(of_user)
            .count())
    }

    /// Returns the last lines of the server's own log, for a failed test's message. If they cannot
    /// be read, returns that error's text.
    pub fn tail(&self, lines: usize) -> String {
        self.own.tail(lines)
    }
}

/// Returns the positions of these fields in lines about logins. After them come the connection's
/// number, the statement's number, and the operation.
fn logins(text: &str, fields: &str) -> impl Iterator<Item = usize> {
    let is_login = |rest: &str| {
        rest.trim_start_matches(|digit: char| digit.is_ascii_digit())
            .starts_with(",0,CONNECT,")
    };
    text.match_indices(fields)
        .filter(move |(at, fields)| is_login(&text[at + fields.len()..]))
        .map(|(at, _)| at)
}

/// Returns the part of the line before this position.
fn line_before(text: &str, position: usize) -> &str {
    let before = &text[..position];
    &before[before.rfind('\n').map_or(0, |end| end + 1)..]
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use std::fs;

    use super::*;

    const NAMES: [&str; 6] = ["app", "app2", "my app", "a, b", "x] @  [y", "a\npp"];

    #[test]
    fn a_name_is_distinguished_from_a_name_that_contains_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = MariaDbLog::in_folder(folder.path(), folder.path().join("server.log"));
        let (mut errors, mut logins) = (String::new(), String::new());
        for name in NAMES {
            for code in REJECTED {
                errors += &format!(
                    "2026-11-25 10:32:59 [{name}] @  [127.0.0.1] ERROR {code}: Access denied : \
                     (null)\n"
                );
            }
            errors += &format!(
                "2026-11-25 10:32:59 {name}[{name}] @  [127.0.0.1] ERROR 1045: Access denied : \
                 LOAD DATA\n"
            );
            errors += &format!(
                "2026-11-25 10:32:59 [{name}] @  [127.0.0.1] ERROR 1040: Too many connections : \
                 (null)\n"
            );
            for (host, event, code) in [
                ("127.0.0.1", "CONNECT", 0),
                ("127.0.0.1", "FAILED_CONNECT", 1045),
                ("localhost", "CONNECT", 0),
            ] {
                logins +=
                    &format!("20261125 10:32:59,vm,{name},{host},12,0,{event},orders,,{code}\n");
                logins +=
                    &format!("20261125 10:32:59,vm,{name},{host},12,0,DISCONNECT,orders,,0\n");
            }
        }
        fs::write(folder.path().join(ERRORS), errors).unwrap();
        fs::write(folder.path().join(LOGINS), logins).unwrap();
        for name in NAMES {
            assert_eq!(
                log.rejected_logins_of(name).unwrap(),
                REJECTED.len(),
                "{name:?}"
            );
            assert_eq!(log.authenticated_logins_of(name).unwrap(), 1, "{name:?}");
        }
        assert_eq!(log.authenticated_logins().unwrap(), NAMES.len());
        log.from_now().unwrap_err();
    }
}
