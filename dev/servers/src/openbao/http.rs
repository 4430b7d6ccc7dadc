//! Requests to the server, and what it answers.

use std::io;

use crate::http_client;

/// What a server answered.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The JSON text, or nothing.
    pub body: String,
}

impl std::fmt::Debug for Answer {
    /// Without the body, in which there may be secrets, unless it tells of an error.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = if self.is_success() {
            "[redacted]"
        } else {
            &self.body
        };
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("body", &body)
            .finish()
    }
}

impl Answer {
    /// Returns whether the status is one of success.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The text behind `"name":"` in the body.
    pub(super) fn text_of(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.body.split_once(&format!("\"{name}\":"))?;
        rest.trim_start_matches(['[', ' '])
            .strip_prefix('"')?
            .split('"')
            .next()
    }
}

/// `headers` are further ones, each with its line's end.
pub(super) fn request(
    port: u16,
    token: &str,
    headers: &str,
    method: &str,
    path: &str,
    body: Option<&str>,
) -> io::Result<Answer> {
    let headers = format!("X-Vault-Request: true\r\nX-Vault-Token: {token}\r\n{headers}");
    let (status, body) = http_client::exchange(
        port,
        method,
        &format!("/v1/{path}"),
        &headers,
        body.unwrap_or_default(),
    )?;
    Ok(Answer { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_alone_and_in_a_list() {
        let answer = Answer {
            status: 200,
            body: r#"{"keys":["ab"],"root_token":"s.x"}"#.to_owned(),
        };
        assert_eq!(answer.text_of("keys"), Some("ab"));
        assert_eq!(answer.text_of("root_token"), Some("s.x"));
        assert_eq!(answer.text_of("token"), None);
    }

    #[test]
    fn a_secret_is_not_in_the_debug_form() {
        let answer = Answer {
            status: 200,
            body: r#"{"root_token":"s.x"}"#.to_owned(),
        };
        assert!(!format!("{answer:?}").contains("s.x"));
        let rejected = Answer {
            status: 403,
            body: r#"{"errors":["permission denied"]}"#.to_owned(),
        };
        assert!(format!("{rejected:?}").contains("permission denied"));
    }
}
