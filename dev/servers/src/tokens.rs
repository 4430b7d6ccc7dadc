//! Tokens that a server verifies as RDS does, and the results.

mod module;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::nonce::nonce;
use crate::text_log::TextLog;

pub(crate) use module::{Module, SERVICE};

/// The role of PostgreSQL users that log in with a token, as on RDS.
pub(crate) const ROLE: &str = "rds_iam";

const CHECKS: &str = "checks";
const REJECT_EVERYTHING: &str = "reject-everything";
const EXPIRED_SESSIONS: &str = "expired-sessions";

/// The checks of tokens by one server, and the means to make them fail.
///
/// A token is accepted if all of these hold:
///
/// - its shape is `host:port/?…`, `Action` is `connect` and `DBUser` is the user;
/// - the access key's scope is `rds-db` on the day of `X-Amz-Date`;
/// - there is a signature; its value is **not** verified, because the server has no secret key;
/// - the time is between five minutes before `X-Amz-Date` and `X-Amz-Expires` (at most 900 s) after
///   it.
///
/// The server logs a check before it responds to the client. A count is therefore exact as soon as
/// the client has the response.
///
/// Each method fails if the builder did not enable tokens, or after the server was dropped: a count
/// of zero always means none.
#[derive(Clone, Debug)]
pub struct TokenChecks {
    folder: PathBuf,
    log: TextLog,
}

/// One check of a token. It does not contain the token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenCheck {
    /// Time of the check, in milliseconds.
    pub checked_at: SystemTime,
    /// Whether the token was accepted.
    pub accepted: bool,
    /// Why it was rejected, as `the token has expired`; empty for an accepted token.
    pub reason: String,
    /// The user that logged in.
    pub user: String,
    /// Age of the token, in milliseconds; zero for a token from the future or without a date, which
    /// is never accepted.
    pub age: Duration,
    /// Length of the token in bytes.
    pub length: usize,
    /// Id of the access key that signed it; empty if the token has none.
    pub access_key: String,
    /// Lifetime in the token, in whole seconds; zero if the token has none.
    pub expires: Duration,
}

impl TokenChecks {
    /// Returns the checks of the server with this folder.
    pub(crate) fn new(folder: &Path) -> Self {
        let folder = folder.join(module::FOLDER);
        Self {
            log: TextLog::new(folder.join(CHECKS)),
            folder,
        }
    }

    /// Returns the checks so far, in order.
    ///
    /// # Errors
    /// The server verifies no tokens, or its folder cannot be read.
    pub fn entries(&self) -> io::Result<Vec<TokenCheck>> {
        let text = self.log.text().map_err(no_token_checks)?;
        text.lines()
            .map(|line| {
                parse_check(line).ok_or_else(|| {
                    io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("not a token check: {line:?}"),
                    )
                })
            })
            .collect()
    }

    /// Returns the same checks without those so far, to count the effect of one step.
    ///
    /// # Errors
    /// As [`entries`](Self::entries).
    pub fn from_now(&self) -> io::Result<Self> {
        Ok(Self {
            folder: self.folder.clone(),
            log: self.log.since_now().map_err(no_token_checks)?,
        })
    }

    /// Returns how many tokens were accepted.
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

    /// Rejects every token from now on, as IAM does when it throttles, or stops doing so.
    ///
    /// # Errors
    /// As [`entries`](Self::entries).
    pub fn reject_all(&self, reject: bool) -> io::Result<()> {
        let file = self.folder.join(REJECT_EVERYTHING);
        if reject {
            self.write_atomically(&file, "")
        } else {
            self.remove(&file)
        }
    }

    /// Expires the session of an access key at this time: tokens signed by it are rejected from
    /// then on. A second call replaces the first.
    ///
    /// # Errors
    /// As [`entries`](Self::entries), and a text that is not an access key's id.
    pub fn expire_session(&self, access_key: &str, expiry: SystemTime) -> io::Result<()> {
        let expiry = expiry
            .duration_since(UNIX_EPOCH)
            .map_err(|_| invalid("the expiry is before 1970".to_owned()))?;
        self.write_atomically(
            &self.session_file(access_key)?,
            &expiry.as_millis().to_string(),
        )
    }

    /// Revokes [`expire_session`](Self::expire_session).
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
                "{access_key:?} cannot be the id of an access key: letters, digits and _, 128 at \
                 most"
            )));
        }
        Ok(self.folder.join(EXPIRED_SESSIONS).join(access_key))
    }

    /// Writes a second file and renames it, so that the server never reads half of it.
    fn write_atomically(&self, file: &Path, text: &str) -> io::Result<()> {
        let draft = self.folder.join(format!("draft-{}", nonce()));
        // Readable by the server, whatever the umask.
        let readable = || fs::set_permissions(&draft, fs::Permissions::from_mode(0o644));
        fs::write(&draft, text)
            .and_then(|()| readable())
            .and_then(|()| fs::rename(&draft, file))
            .map_err(no_token_checks)
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        self.log.text().map_err(no_token_checks)?;
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn no_token_checks(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::NotFound {
        return error;
    }
    io::Error::new(
        error.kind(),
        "this server checks no tokens, or was dropped: start it by `builder().tokens()`",
    )
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Parses a line of `pam.c`: `time verdict user age length key expires reason`.
fn parse_check(line: &str) -> Option<TokenCheck> {
    let mut fields = line.splitn(8, ' ');
    let checked_at = UNIX_EPOCH + Duration::from_millis(fields.next()?.parse().ok()?);
    let accepted = match fields.next()? {
        "accepted" => true,
        "rejected" => false,
        _ => return None,
    };
    let user = decode_name(fields.next()?)?;
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

/// Decodes the percent-encoded white space in a name.
fn decode_name(field: &str) -> Option<String> {
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
    fn every_field_of_a_line_is_parsed() {
        assert_eq!(
            parse_check(
                "1767323045006 rejected a%20b%25é -2000 1650 ASIA1 900 the token has expired"
            ),
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
        let bare = parse_check("0 accepted app - 0 - -1 ");
        assert!(bare.is_some_and(|bare| bare.accepted
            && bare.reason.is_empty()
            && bare.access_key.is_empty()
            && bare.expires.is_zero()));
    }

    #[test]
    fn an_incomplete_line_is_not_parsed() {
        for line in [
            "",
            "0 accepted app 1 2 K 3",
            "x accepted app 1 2 K 3 ",
            "0 perhaps app 1 2 K 3 ",
            "0 accepted a%2 1 2 K 3 ",
        ] {
            assert_eq!(parse_check(line), None, "{line:?}");
        }
    }
}
