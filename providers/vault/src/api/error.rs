//! Errors of requests, classified.

use std::error::Error as StdError;
use std::time::Duration;

use rustls::{CertificateError as Rustls, InvalidMessage};
use serde::Deserialize;
use serde_json::Value;

use super::{Envelope, Response};

/// Time after which a standby has received what was written on another node.
pub(super) const REPLICATION_DELAY: Duration = Duration::from_secs(1);

/// Cause of a failed request. Without `Debug`, because the texts are those of the server.
pub(crate) enum CallError {
    /// The server returned an error status.
    Status {
        status: u16,
        texts: Vec<String>,
        retry_after: Option<Duration>,
        /// The namespace of the request. If there is none of this name, the status is 404.
        namespace: Option<String>,
    },
    /// Status 404 with data, which a KV store returns for a deleted version.
    Deleted(Response),
    /// The request timed out.
    TimedOut,
    /// Earlier requests have timed out, and their responses may still arrive.
    TooManyLate,
    /// The server cannot be reached.
    Unreachable,
    /// The server's certificate cannot be verified.
    Certificate(CertificateError),
    /// The server does not respond with TLS to an https address.
    WithoutTls,
    /// The response is not one of Vault.
    InvalidResponse,
}

/// Reason why a certificate cannot be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertificateError {
    Expired,
    NotYetValid,
    /// It names other hosts.
    OtherHost,
    /// No known authority has signed it, or anything else.
    Untrusted,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<String>,
}

impl CallError {
    /// Classifies a response with an error status, to a request in this namespace.
    pub(super) fn from_response(
        response: http::Response<Vec<u8>>,
        namespace: Option<String>,
    ) -> Self {
        let has_data = || {
            serde_json::from_slice::<Envelope<Value>>(response.body())
                .is_ok_and(|envelope| envelope.data.is_some())
        };
        if response.status() == http::StatusCode::NOT_FOUND && has_data() {
            return Self::Deleted(Response::from_http(response));
        }
        let texts = match serde_json::from_slice::<Errors>(response.body()) {
            Ok(body) => body.errors,
            Err(_) if String::from_utf8_lossy(response.body()).contains(PLAIN_HTTP_TEXT) => {
                vec![PLAIN_HTTP_TEXT.to_owned()]
            }
            Err(_) => Vec::new(),
        };
        let header = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Self::Status {
            status: response.status().as_u16(),
            texts,
            retry_after: header.map(Duration::from_secs),
            namespace,
        }
    }

    /// Classifies a request that could not be sent, or got no response. No text of the error is
    /// kept.
    pub(super) fn from_reqwest(error: &reqwest::Error) -> Self {
        match tls_error(error) {
            Some(rustls::Error::InvalidCertificate(problem)) => {
                return Self::Certificate(CertificateError::of(problem));
            }
            Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                return Self::WithoutTls;
            }
            _ => {}
        }
        if error.is_builder() {
            Self::InvalidResponse
        } else {
            Self::Unreachable
        }
    }

    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Deleted(_) => Some(404),
            _ => None,
        }
    }

    /// Returns whether one of the server's texts contains one of these.
    pub(crate) fn mentions(&self, words: &[&str]) -> bool {
        match self {
            Self::Status { texts, .. } => texts
                .iter()
                .any(|text| words.iter().any(|word| text.contains(word))),
            _ => false,
        }
    }

    /// Returns whether the server reports that the request's namespace does not exist. Vault does
    /// not report it.
    pub(crate) fn is_without_namespace(&self) -> bool {
        self.status() == Some(404) && self.mentions(&["namespace not found"])
    }

    /// Returns whether the token is invalid or lacks the permission. If the server reports which,
    /// [`is_invalid_token`](Self::is_invalid_token) or
    /// [`is_policy_denial`](Self::is_policy_denial) is true, too.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.status() == Some(403)
    }

    /// Returns whether the server reports an invalid token. Vault returns `invalid token` beside
    /// `permission denied`.
    pub(crate) fn is_invalid_token(&self) -> bool {
        self.is_forbidden() && self.mentions(&["invalid token", "bad token"])
    }

    /// Returns whether the server reports a valid token without the permission. OpenBao 2.7 and
    /// Vault 1.21 both return `1 error occurred: permission denied`. For an invalid token, OpenBao
    /// returns `permission denied` only.
    pub(crate) fn is_policy_denial(&self) -> bool {
        self.is_forbidden() && self.mentions(&["1 error occurred"])
    }

    /// Returns whether the server rejects the request permanently: an unknown lease, a renewal
    /// beyond its maximum.
    pub(crate) fn is_rejection(&self) -> bool {
        matches!(self.status(), Some(400 | 404))
    }
}

impl CertificateError {
    fn of(error: &Rustls) -> Self {
        match error {
            Rustls::Expired | Rustls::ExpiredContext { .. } => Self::Expired,
            Rustls::NotValidYet | Rustls::NotValidYetContext { .. } => Self::NotYetValid,
            Rustls::NotValidForName | Rustls::NotValidForNameContext { .. } => Self::OtherHost,
            _ => Self::Untrusted,
        }
    }
}

/// Returns the error of TLS that caused this one. Errors of I/O contain theirs, which is not their
/// source.
fn tls_error(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref() {
            return Some(error);
        }
        let io = cause.downcast_ref::<std::io::Error>();
        next = match io.and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => cause.source(),
        };
    }
    None
}

/// Response of a TLS port to plain HTTP; it is not JSON.
pub(super) const PLAIN_HTTP_TEXT: &str = "HTTP request to an HTTPS server";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_version_differs_from_a_missing_secret() {
        let from_body = |body: &str| {
            let mut response = http::Response::new(body.as_bytes().to_vec());
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            CallError::from_response(response, None)
        };
        assert!(matches!(
            from_body(r#"{"data": {"data": null, "metadata": {"version": 2}}}"#),
            CallError::Deleted(_)
        ));
        for body in [r#"{"errors": []}"#, "", "<html>", r#"{"data": null}"#] {
            assert!(
                matches!(from_body(body), CallError::Status { status: 404, .. }),
                "{body}"
            );
        }
    }

    #[test]
    fn an_invalid_token_differs_from_a_missing_permission_if_the_server_reports_it() {
        let denied = |texts: &[&str]| CallError::Status {
            status: 403,
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
            retry_after: None,
            namespace: None,
        };
        assert!(denied(&["permission denied", "invalid token"]).is_invalid_token());
        assert!(!denied(&["permission denied"]).is_invalid_token());
        assert!(denied(&["permission denied"]).is_forbidden());
        assert!(denied(&["1 error occurred:\n\t* permission denied\n\n"]).is_policy_denial());
        assert!(!denied(&["permission denied"]).is_policy_denial());
        assert!(
            !denied(&["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"])
                .is_policy_denial()
        );
    }
}
