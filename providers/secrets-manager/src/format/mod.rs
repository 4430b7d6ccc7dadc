//! Formats of a secret's text.

mod json;

use claviger::Credentials;
use claviger::error::{ProviderError, ProviderErrorKind};

pub(crate) use json::Keys;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Format of the credentials in the secret.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    /// A JSON object with these keys.
    Json(Keys),
    /// The password alone, of this user.
    Password { user: String },
}

/// Reason why a secret's content cannot be used. Names the part and contains no content.
#[derive(Clone, Debug)]
pub(crate) struct ContentError(String);

impl ContentError {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }

    /// Makes an error that names the key.
    fn for_key(key: &str, problem: &str) -> Self {
        Self(format!("the key \"{key}\" {problem}"))
    }

    /// Makes the error of a fetch. `place` names the version.
    pub(crate) fn into_provider_error(self, place: &str) -> ProviderError {
        ProviderError::new(ProviderErrorKind::Malformed, format!("{place}: {}", self.0))
    }
}

impl Format {
    /// Reads the credentials. A byte order mark at the beginning, which editors write, is left out.
    pub(crate) fn read(&self, text: &str) -> Result<Credentials, ContentError> {
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        match self {
            Self::Json(keys) => keys.read(text),
            Self::Password { user } => {
                if text.is_empty() {
                    return Err(ContentError::new("the secret is empty; write the password"));
                }
                if text.contains('\0') {
                    return Err(ContentError::new(
                        "the password has a NUL character, which databases do not accept; write \
                        another",
                    ));
                }
                Ok(Credentials::new(user, text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_byte_order_mark_at_the_beginning_is_skipped() {
        let credentials = Format::Json(Keys::default())
            .read("\u{feff}{\"username\":\"u\",\"password\":\"\u{feff}p\"}")
            .unwrap();
        assert_eq!(
            (credentials.user(), credentials.expose_password()),
            ("u", "\u{feff}p")
        );
        let format = Format::Password {
            user: "orders".to_owned(),
        };
        for (text, password) in [
            ("\u{feff}s3cret", "s3cret"),
            ("\u{feff}\u{feff}", "\u{feff}"),
            ("s3\u{feff}cret", "s3\u{feff}cret"),
        ] {
            assert_eq!(format.read(text).unwrap().expose_password(), password);
        }
    }

    #[test]
    fn a_plain_password_is_read_byte_for_byte() {
        let format = Format::Password {
            user: "orders".to_owned(),
        };
        for text in [" s3cret ", "s3cret\n", "{\"password\":\"x\"}", "pässwörd"] {
            let credentials = format.read(text).unwrap();
            assert_eq!(
                (credentials.user(), credentials.expose_password()),
                ("orders", text)
            );
            assert!(credentials.endpoint().is_none());
        }
        assert!(format.read("").is_err());
        assert!(format.read("\u{feff}").is_err());
        assert!(format.read("a\0b").is_err());
    }
}
