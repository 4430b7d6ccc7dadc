//! Requests to the server, and its responses.

use std::io;

use crate::http_client;

/// A response of the server.
#[derive(Clone, PartialEq, Eq)]
pub struct VaultResponse {
    /// The HTTP status.
    pub status: u16,
    /// The JSON text; may be empty.
    pub body: String,
}

impl std::fmt::Debug for VaultResponse {
    /// Omits the body, which may contain secrets, unless it describes an error.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = if self.is_success() {
            "[redacted]"
        } else {
            &self.body
        };
        f.debug_struct("VaultResponse")
            .field("status", &self.status)
            .field("body", &body)
            .finish()
    }
}

impl VaultResponse {
    /// Returns whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the text after `"name":"` in the body.
    pub(super) fn text_of(&self, name: &str) -> Option<&str> {
        let (_, rest) = self.body.split_once(&format!("\"{name}\":"))?;
        rest.trim_start_matches(['[', ' '])
            .strip_prefix('"')?
            .split('"')
            .next()
    }
}

/// Sends a request. `headers` are further headers, each with its line break.
pub(super) fn request(
    port: u16,
    token: &str,
    headers: &str,
    method: &str,
    path: &str,
    body: Option<&str>,
) -> io::Result<VaultResponse> {
    let headers = format!("X-Vault-Request: true\r\nX-Vault-Token: {token}\r\n{headers}");
    let (status, body) = http_client::exchange(
        port,
        method,
        &format!("/v1/{path}"),
        &headers,
        body.unwrap_or_default(),
    )?;
    Ok(VaultResponse { status, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_alone_and_in_a_list() {
        let response = VaultResponse {
            status: 200,
            body: r#"{"keys":["ab"],"root_token":"s.x"}"#.to_owned(),
        };
        assert_eq!(response.text_of("keys"), Some("ab"));
        assert_eq!(response.text_of("root_token"), Some("s.x"));
        assert_eq!(response.text_of("token"), None);
    }

    #[test]
    fn a_secret_is_not_in_the_debug_form() {
        let response = VaultResponse {
            status: 200,
            body: r#"{"root_token":"s.x"}"#.to_owned(),
        };
        assert!(!format!("{response:?}").contains("s.x"));
        let rejected = VaultResponse {
            status: 403,
            body: r#"{"errors":["permission denied"]}"#.to_owned(),
        };
        assert!(format!("{rejected:?}").contains("permission denied"));
    }
}
