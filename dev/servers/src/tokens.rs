//! Tokens that a server checks as RDS does, and the oracle that tells what it found.

mod module;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::nonce::nonce;
use crate::text_log::TextLog;

pub(crate) use module::{Module, SERVICE};

/// The role by which PostgreSQL knows who logs in with a token, as on RDS.
pub(crate) const ROLE: &str = "rds_iam";

const CHECKS: &str = "checks";
const REJECT_EVERYTHING: &str = "reject-everything";
const EXPIRED_SESSIONS: &str = "expired-sessions";

/// The checks of tokens by one server, and the ways to make them fail.
///
/// A token is let in when it has the shape `host:port/?…`, when `Action` is `connect` and
/// `DBUser` the user who logs in, when the access key's scope is `rds-db` on the day of
/// `X-Amz-Date`, when there is a signature (its value is **not** checked: the server has no
/// secret key), and from five minutes before `X-Amz-Date` until `X-Amz-Expires` (900 s at
/// most) after it.
///
/// The server writes the line about a check before it answers the client. So a count is
/// exact as soon as the client has its answer.
///
/// Each method fails when the server was started without `tokens`, or when it is gone: a
/// count of zero always means none.
#[derive(Clone, Debug)]
pub struct TokenChecks {
    folder: PathBuf,
    log: TextLog,
}

/// One check of a token. It never holds the token itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenCheck {
    /// When it happened, to the millisecond.
    pub checked_at: SystemTime,
    /// Returns whether the token let the user in.
    pub accepted: bool,
    /// Why not, as `the token has expired`; empty for an accepted token.
    pub reason: String,
    /// Who wanted to log in.
    pub user: String,
    /// How long ago the token was signed, to the millisecond; zero for one from the future
    /// and where the token does not say, which is never accepted.
    pub age: Duration,
    /// The length of the token in bytes.
    pub length: usize,
    /// The id of the access key that signed it; empty where the token does not say.
    pub access_key: String,
    /// How long the token said that it would live, in whole seconds; zero where it did not say.
    pub expires: Duration,
}

impl TokenChecks {
    /// Those of the server with this folder.
    pub(crate) fn new(folder: &Path) -> Self {
        let folder = folder.join(module::FOLDER);
        Self {
            log: TextLog::new(folder.join(CHECKS)),
            folder,
        }
    }

    /// The checks so far, in their order.
    ///
    /// # Errors
    /// When the server checks no tokens, or its folder cannot be read.
    pub fn entries(&self) -> io::Result<Vec<TokenCheck>> {
        let text = self.log.text().map_err(none_checked)?;
        text.lines()
            .map(|line| {
                check(line).ok_or_else(|| {
                    io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("not a token check: {line:?}"),
                    )
                })
            })
            .collect()
    }

    /// The same oracle without the checks so far, to count what one step of a test brings
    /// about.
    ///
    /// # Errors
    /// As [`entries`](Self::entries).
    pub fn from_now(&self) -> io::Result<Self> {
        Ok(Self {
            folder: self.folder.clone(),
            log: self.log.since_now().map_err(none_checked)?,
        })
    }

    /// Returns how many tokens were let in.
    ///
    /// # Errors
    /// As [`entries`](Self::entries).
    pub fn accepted(&self) -> io::Result<usize> {
        Ok(self
            .entries()?
            .iter()
            .filter(|check| check.accepted)
            .count())
    }

    /// Returns how many tokens were rejected.
    ///
    /// # Errors
    /// As [`entries`](Self::entries).
    pub fn rejected(&self) -> io::Result<usize> {
        Ok(self
            .entries()?
            .iter()
            .filter(|check| !check.accepted)
            .count())
    }

    /// Rejects every token from now on, as IAM does when it is asked too often, or stops
    /// doing so.
    ///
    /// # Errors
    /// As [`entries`](Self::entries).
    pub fn reject_all(&self, reject: bool) -> io::Result<()> {
        let file = self.folder.join(REJECT_EVERYTHING);
        if reject {
            self.put(&file, "")
        } else {
            self.remove(&file)
        }
    }

    /// Lets the session of an access key die at that moment: whatever it has signed is
    /// rejected from then on, however long it was to live. A second call replaces the first.
    ///
    /// # Errors
    /// As [`entries`](Self::entries), and for a text that cannot be an access key's id.
    pub fn expire_session(&self, access_key: &str, at: SystemTime) -> io::Result<()> {
        let at = at
            .duration_since(UNIX_EPOCH)
            .map_err(|_| invalid("the expiry is before 1970".to_owned()))?;
        self.put(&self.session_file(access_key)?, &at.as_millis().to_string())
    }

    /// Lets the session of an access key live again.
    ///
    /// # Errors
    /// As [`expire_session`](Self::expire_session).
    pub fn restore_session(&self, access_key: &str) -> io::Result<()> {
        self.remove(&self.session_file(access_key)?)
    }

    fn session_file(&self, access_key: &str) -> io::Result<PathBuf> {
        if access_key.is_empty()
            || access_key.len() > 128
            || !access_key
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return Err(invalid(format!(
                "{access_key:?} cannot be the id of an access key: letters, digits and _, 128 at most"
            )));
        }
        Ok(self.folder.join(EXPIRED_SESSIONS).join(access_key))
    }

    /// By way of a second file: the server must never read half of it.
    fn put(&self, file: &Path, text: &str) -> io::Result<()> {
        let draft = self.folder.join(format!("draft-{}", nonce()));
        // Readable by the server, whatever the umask.
        let readable = || fs::set_permissions(&draft, fs::Permissions::from_mode(0o644));
        fs::write(&draft, text)
            .and_then(|()| readable())
            .and_then(|()| fs::rename(&draft, file))
            .map_err(none_checked)
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        self.log.text().map_err(none_checked)?;
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn none_checked(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::NotFound {
        return error;
    }
    io::Error::new(
        error.kind(),
        "this server checks no tokens: start it by `builder().tokens()`, and ask while it is there",
    )
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// A line as `pam.c` writes it: `at verdict user age length key expires reason`.
fn check(line: &str) -> Option<TokenCheck> {
    let mut fields = line.splitn(8, ' ');
    let checked_at = UNIX_EPOCH + Duration::from_millis(fields.next()?.parse().ok()?);
    let accepted = match fields.next()? {
        "accepted" => true,
        "rejected" => false,
        _ => return None,
    };
    let user = name(fields.next()?)?;
    let age = match fields.next()? {
        "-" => Duration::ZERO,
        age => Duration::from_millis(u64::try_from(age.parse::<i64>().ok()?).unwrap_or_default()),
    };
    let length = fields.next()?.parse().ok()?;
    let access_key = fields.next()?.trim_start_matches('-').to_owned();
    let expires =
        Duration::from_secs(u64::try_from(fields.next()?.parse::<i64>().ok()?).unwrap_or_default());
    Some(TokenCheck {
        checked_at,
        accepted,
        reason: fields.next()?.to_owned(),
        user,
        age,
        length,
        access_key,
        expires,
    })
}

/// Undoes what keeps white space out of a name.
fn name(field: &str) -> Option<String> {
    let mut parts = field.split('%');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        name.push(char::from(u8::from_str_radix(part.get(..2)?, 16).ok()?));
        name.push_str(part.get(2..)?);
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_meant() {
        assert_eq!(
            check("1767323045006 rejected a%20b%25é -2000 1650 ASIA1 900 the token has expired"),
            Some(TokenCheck {
                checked_at: UNIX_EPOCH + Duration::from_millis(1_767_323_045_006),
                accepted: false,
                reason: "the token has expired".to_owned(),
                user: "a b%é".to_owned(),
                age: Duration::ZERO,
                length: 1650,
                access_key: "ASIA1".to_owned(),
                expires: Duration::from_secs(900),
            })
        );
        let bare = check("0 accepted app - 0 - -1 ");
        assert!(bare.is_some_and(|bare| bare.accepted
            && bare.reason.is_empty()
            && bare.access_key.is_empty()
            && bare.expires.is_zero()));
    }

    #[test]
    fn half_a_line_is_no_check() {
        for line in [
            "",
            "0 accepted app 1 2 K 3",
            "x accepted app 1 2 K 3 ",
            "0 perhaps app 1 2 K 3 ",
            "0 accepted a%2 1 2 K 3 ",
        ] {
            assert_eq!(check(line), None, "{line:?}");
        }
    }
}
