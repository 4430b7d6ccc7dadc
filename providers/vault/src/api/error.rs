//! Errors of requests, classified and explained. Statuses alone do not separate transient errors
//! from permanent ones, so texts are matched. No text is shown.

use std::error::Error as StdError;
use std::time::Duration;

use claviger::error::{ProviderError, ProviderErrorKind as Kind};
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
    },
    /// Status 404 with data, which a KV store returns for a deleted version.
    Deleted(Response),
    /// The request timed out.
    TimedOut,
    /// Earlier requests have timed out, and their responses may still arrive.
    TooManyLate,
    /// The server cannot be reached.
    Unreachable,
    /// The server's certificate is not trusted.
    Untrusted,
    /// The response is not one of Vault.
    InvalidResponse,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<String>,
}

impl CallError {
    /// Classifies a response with an error status.
    pub(super) fn from_response(response: http::Response<Vec<u8>>) -> Self {
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
        }
    }

    /// Classifies a request that could not be sent, or got no response. No text of the error is
    /// kept.
    pub(super) fn from_reqwest(error: &reqwest::Error) -> Self {
        let mut next: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(cause) = next {
            let text = cause.to_string();
            if ["certificate", "Certificate", "UnknownIssuer"]
                .iter()
                .any(|word| text.contains(word))
            {
                return Self::Untrusted;
            }
            next = cause.source();
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

    /// Explains the error. `place` is the server and path; `grant` is the permission that is
    /// needed.
    pub(crate) fn explain(&self, place: &str, grant: &str) -> ProviderError {
        let error = |kind, problem: &str| ProviderError::new(kind, format!("{place}: {problem}"));
        let (status, retry_after) = match self {
            Self::TimedOut => return error(Kind::TimedOut, "the request timed out"),
            Self::TooManyLate => {
                return error(
                    Kind::TimedOut,
                    "3 earlier requests have no response yet; another one follows when one of \
                    them ends, after 120 s at most",
                );
            }
            Self::Unreachable => {
                return error(
                    Kind::Unavailable,
                    "Vault cannot be reached; check the address and the network",
                );
            }
            Self::Untrusted => {
                return error(
                    Kind::Misconfigured,
                    "Vault's certificate is not trusted; set its authority by \"ca_file\", and \
                    the host as in the certificate",
                );
            }
            Self::InvalidResponse => {
                return error(
                    Kind::Unavailable,
                    "the response is not a complete one of Vault; check the address and proxies",
                );
            }
            Self::Status {
                status,
                retry_after,
                ..
            } => (*status, *retry_after),
            Self::Deleted(_) => (404, None),
        };
        let later = |error: ProviderError| match retry_after {
            Some(after) => error.with_retry_after(after),
            None => error,
        };
        match status {
            300..=399 => error(
                Kind::Misconfigured,
                "Vault redirects to another address, which is sent neither token nor secrets; set \
                that address, or that of a load balancer before the active node",
            ),
            503 if self.mentions(&["sealed"]) => {
                error(Kind::Unavailable, "Vault is sealed; unseal it")
            }
            429 => later(error(
                Kind::Throttled,
                "a quota of Vault is used up; raise it, or use fewer processes",
            )),
            412 => error(
                Kind::Unavailable,
                "this node of Vault has not yet received what another one wrote",
            )
            .with_retry_after(REPLICATION_DELAY),
            472 | 473 => error(
                Kind::Unavailable,
                "this node of Vault is a standby that does not serve this; set the address of the \
                active one",
            ),
            500 if self.mentions(&["local node not active", "no active", "standby"]) => error(
                Kind::Unavailable,
                "this node of Vault is a standby without an active node; check the cluster",
            ),
            400 if self.mentions(&[PLAIN_HTTP_TEXT]) => error(
                Kind::Misconfigured,
                "the server requires TLS; check the address, which must begin with https",
            ),
            403 => error(Kind::Denied, &format!("not allowed; {grant}")),
            400 | 404
                if self.mentions(&["unknown role", "Unknown role", "role entry not found"]) =>
            {
                error(
                    Kind::NotFound,
                    "there is no such role; check its name, or create it",
                )
            }
            404 if self.mentions(&[
                "no handler for route",
                "unsupported path",
                "route entry not found",
            ]) =>
            {
                error(
                    Kind::NotFound,
                    "nothing is mounted there; check the mount, or enable the engine",
                )
            }
            404 => error(
                Kind::NotFound,
                "there is nothing at this path; check mount and name, or create it",
            ),
            500 if self.mentions(DATABASE_TEXTS) => error(
                Kind::Unavailable,
                "Vault cannot connect to the database; check the database and Vault's connection \
                to it",
            ),
            400 if self.mentions(DATABASE_TEXTS) => {
                error(Kind::Unavailable, "the database behind Vault is down")
            }
            500..=599 => later(error(
                Kind::Unavailable,
                &format!("Vault has an internal error (HTTP status {status})"),
            )),
            _ => error(Kind::Other, &format!("Vault returned HTTP status {status}")),
        }
    }
}

/// Response of a TLS port to plain HTTP; it is not JSON.
const PLAIN_HTTP_TEXT: &str = "HTTP request to an HTTPS server";

/// Texts of errors that the database, not Vault, has caused.
const DATABASE_TEXTS: &[&str] = &[
    "connection refused",
    "failed to connect",
    "dial tcp",
    "dial error",
    "error verifying connection",
    "failed to find entry for connection",
    "driver: bad connection",
    "password authentication failed",
    "Access denied for user",
    "context deadline exceeded",
    "unable to create user",
    "error creating database object",
    "broken pipe",
    "connection reset",
];

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &str = "http://vault:8200, database/creds/orders";
    const CANARY: &str = "CANARY";

    fn explained(status: u16, text: &str) -> ProviderError {
        let texts = vec![format!("{text} {CANARY}")];
        CallError::Status {
            status,
            texts,
            retry_after: Some(Duration::from_secs(7)),
        }
        .explain(PLACE, "grant `read` on it")
    }

    #[test]
    fn every_status_has_its_kind_and_remedy() {
        for (status, text, kind, expected) in [
            (503, "Vault is sealed", Kind::Unavailable, "unseal it"),
            (503, "", Kind::Unavailable, "status 503"),
            (
                429,
                "request path \"x\": rate limit quota exceeded",
                Kind::Throttled,
                "quota",
            ),
            (
                412,
                "required index state not present",
                Kind::Unavailable,
                "not yet received",
            ),
            (472, "", Kind::Unavailable, "standby"),
            (473, "", Kind::Unavailable, "standby"),
            (
                500,
                "local node not active but active cluster node not found",
                Kind::Unavailable,
                "without an active node",
            ),
            (403, "permission denied", Kind::Denied, "grant `read` on it"),
            (400, "unknown role: orders", Kind::NotFound, "no such role"),
            (
                404,
                "no handler for route \"database/creds/orders\"",
                Kind::NotFound,
                "nothing is mounted",
            ),
            (404, "", Kind::NotFound, "nothing at this path"),
            (
                500,
                "failed to connect to `host=db`: dial error",
                Kind::Unavailable,
                "the database",
            ),
            (500, "", Kind::Unavailable, "internal error"),
            (
                400,
                "Client sent an HTTP request to an HTTPS server.",
                Kind::Misconfigured,
                "begin with https",
            ),
            (400, "", Kind::Other, "status 400"),
        ] {
            let error = explained(status, text);
            assert_eq!(error.kind(), kind, "{status} {text}: {error}");
            let shown = format!("{error} {error:?}");
            assert!(
                shown.contains(PLACE) && shown.contains(expected),
                "{status} {text}: {shown}"
            );
            assert!(!shown.contains(CANARY), "{shown}");
            assert!(StdError::source(&error).is_none());
        }
    }

    #[test]
    fn a_deleted_version_differs_from_a_missing_secret() {
        let from_body = |body: &str| {
            let mut response = http::Response::new(body.as_bytes().to_vec());
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            CallError::from_response(response)
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
