//! Database user that a token is signed for.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Longest name, in bytes. No database has longer ones (PostgreSQL: 63 bytes, MySQL: 32 characters,
/// MariaDB: 128). The SDK panics from 65,534 on.
const MAX_LENGTH: usize = 1_024;

/// All characters but the unreserved ones of RFC 3986, as Signature Version 4 requires.
pub(crate) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Name of a database user, plain and as encoded in a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    name: String,
    encoded: String,
}

impl User {
    /// Parses any name that a database may have.
    ///
    /// # Errors
    /// The problem and what would be right.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        if name.is_empty() {
            return Err("is empty; set the database user".to_owned());
        }
        if name.contains('\0') {
            return Err(format!(
                "has a NUL in {name:?}, which databases do not accept; set the user as it was \
                created"
            ));
        }
        if name.len() > MAX_LENGTH {
            return Err(format!(
                "has {} bytes, which databases do not accept; set at most {MAX_LENGTH}",
                name.len()
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            encoded: utf8_percent_encode(name, RESERVED).to_string(),
        })
    }

    /// Returns the name as in the database.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name as encoded in a token.
    pub(crate) fn encoded(&self) -> &str {
        &self.encoded
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_reserved_character_is_encoded() {
        for (name, encoded) in [
            ("orders_app", "orders_app"),
            ("first.last+x@corp", "first.last%2Bx%40corp"),
            ("a b", "a%20b"),
            ("~-._", "~-._"),
            ("50%", "50%25"),
            ("a&DBUser=b", "a%26DBUser%3Db"),
            ("zoë", "zo%C3%AB"),
            ("a\tb\n", "a%09b%0A"),
            ("*'()!", "%2A%27%28%29%21"),
        ] {
            assert_eq!(User::parse(name).expect("it is a user").encoded(), encoded);
        }
    }

    #[test]
    fn an_invalid_user_is_an_error_that_names_the_cause() {
        let long = "a".repeat(1_025);
        for (name, why) in [
            ("", "is empty"),
            ("a\0", "has a NUL"),
            (long.as_str(), "has 1025 bytes"),
        ] {
            let problem = User::parse(name).expect_err(name);
            assert!(problem.contains(why), "{name:?}: {problem}");
        }
    }
}
