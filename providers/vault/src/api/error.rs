//! Why there is no answer, told apart and explained. Statuses alone do not separate what passes
//! from what stays, so texts are looked at; none is repeated.

use std::error::Error as StdError;
use std::time::Duration;

use claviger::{ProviderError, ProviderErrorKind as Kind};
use serde::Deserialize;
use serde_json::Value;

use super::{Envelope, Response};

/// How long a standby that has not yet got what was written elsewhere may take.
pub(super) const REPLICATION_DELAY: Duration = Duration::from_secs(1);

/// Why there is no answer. Without `Debug`: the texts are the server's.
pub(crate) enum CallError {
    /// The server answered with an error.
    Status {
        status: u16,
        texts: Vec<String>,
        retry_after: Option<Duration>,
    },
    /// Status 404 with an answer all the same: a KV store tells so of a version that is gone.
    Deleted(Response),
    /// No answer came in time.
    TimedOut,
    /// The server cannot be reached.
    Unreachable,
    /// Its certificate does not verify.
    Untrusted,
    /// What came is no answer of Vault's.
    InvalidResponse,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<String>,
}

impl CallError {
    /// An answer whose status is none of success.
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

    /// A request that could not be made, or got no response. Nothing of the error is kept.
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

    /// Whether one of the server's texts contains one of these.
    pub(crate) fn mentions(&self, words: &[&str]) -> bool {
        match self {
            Self::Status { texts, .. } => texts
                .iter()
                .any(|text| words.iter().any(|word| text.contains(word))),
            _ => false,
        }
    }

    /// A token that is dead, or not allowed to: [`is_dead_token`](Self::is_dead_token) or
    /// [`is_by_policy`](Self::is_by_policy) where the server says which.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.status() == Some(403)
    }

    /// Vault says `invalid token` beside `permission denied`.
    pub(crate) fn is_invalid_token(&self) -> bool {
        self.is_forbidden() && self.mentions(&["invalid token", "bad token"])
    }

    /// A living token that no policy allows it: OpenBao 2.7 and Vault 1.21 both answer `1 error
    /// occurred: permission denied`. Of a dead token, OpenBao says `permission denied` and no more.
    pub(crate) fn is_policy_denial(&self) -> bool {
        self.is_forbidden() && self.mentions(&["1 error occurred"])
    }

    /// The request itself was not to the server's liking, however often it is sent: an unknown
    /// lease, a renewal beyond its maximum.
    pub(crate) fn is_rejection(&self) -> bool {
        matches!(self.status(), Some(400 | 404))
    }

    /// What it means. `place` is what was asked for; `grant` is the policy's line that would allow
    /// it.
    pub(crate) fn explain(&self, place: &str, grant: &str) -> ProviderError {
        let error = |kind, problem: &str| ProviderError::new(kind, format!("{place}: {problem}"));
        let (status, retry_after) = match self {
            Self::TimedOut => return error(Kind::TimedOut, "Vault did not answer in time"),
            Self::Unreachable => {
                return error(
                    Kind::Unavailable,
                    "Vault cannot be reached; see to the address and the network",
                );
            }
            Self::Untrusted => {
                return error(
                    Kind::Misconfigured,
                    "Vault's certificate does not verify; name its authority by `ca_file`, and its host as the certificate does",
                );
            }
            Self::InvalidResponse => {
                return error(
                    Kind::Unavailable,
                    "what came is no whole answer of Vault's; see to the address and to what lies in between",
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
            Some(after) => error.retry_after(after),
            None => error,
        };
        match status {
            300..=399 => error(
                Kind::Misconfigured,
                "Vault redirects to another address, which is sent neither token nor secrets; give that address, or that of a load balancer in front of the active node",
            ),
            503 if self.mentions(&["sealed"]) => {
                error(Kind::Unavailable, "Vault is sealed; unseal it")
            }
            429 => later(error(
                Kind::Throttled,
                "a quota of Vault's is used up; raise it, or ask with fewer processes",
            )),
            412 => error(
                Kind::Unavailable,
                "this node of Vault has not yet got what another one wrote",
            )
            .retry_after(REPLICATION_DELAY),
            472 | 473 => error(
                Kind::Unavailable,
                "this node of Vault is a standby that does not serve this; give the address of the active one",
            ),
            500 if self.mentions(&["local node not active", "no active", "standby"]) => error(
                Kind::Unavailable,
                "this node of Vault is a standby and knows of no active one; see to the cluster",
            ),
            400 if self.mentions(&[PLAIN_HTTP_TEXT]) => error(
                Kind::Misconfigured,
                "the server speaks TLS there; see to the address, which has to begin with https",
            ),
            403 => error(Kind::Denied, &format!("not allowed; {grant}")),
            400 | 404
                if self.mentions(&["unknown role", "Unknown role", "role entry not found"]) =>
            {
                error(
                    Kind::NotFound,
                    "there is no such role; see to its name, or create it",
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
                    "nothing is mounted there; see to the mount, or enable the engine",
                )
            }
            404 => error(
                Kind::NotFound,
                "there is nothing at this path; see to mount and name, or create it",
            ),
            500 if self.mentions(DATABASE_TEXTS) => error(
                Kind::Unavailable,
                "Vault cannot reach the database, or cannot log in to it; see to the database, and to the connection that Vault has to it",
            ),
            400 if self.mentions(DATABASE_TEXTS) => {
                error(Kind::Unavailable, "the database behind Vault is down")
            }
            500..=599 => later(error(
                Kind::Unavailable,
                &format!("Vault has a fault of its own (HTTP status {status})"),
            )),
            _ => error(Kind::Other, &format!("Vault answered HTTP status {status}")),
        }
    }
}

/// What a TLS port answers to plain HTTP; no JSON.
const PLAIN_HTTP_TEXT: &str = "HTTP request to an HTTPS server";

/// What Vault says when the database, not Vault, is at fault.
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
    fn every_answer_has_its_kind_and_says_what_to_do() {
        for (status, text, kind, says) in [
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
                "not yet",
            ),
            (472, "", Kind::Unavailable, "standby"),
            (473, "", Kind::Unavailable, "standby"),
            (
                500,
                "local node not active but active cluster node not found",
                Kind::Unavailable,
                "no active one",
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
            (500, "", Kind::Unavailable, "fault of its own"),
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
                shown.contains(PLACE) && shown.contains(says),
                "{status} {text}: {shown}"
            );
            assert!(!shown.contains(CANARY), "{shown}");
            assert!(StdError::source(&error).is_none());
        }
    }

    #[test]
    fn what_is_gone_is_told_from_what_never_was() {
        let answered = |body: &str| {
            let mut response = http::Response::new(body.as_bytes().to_vec());
            *response.status_mut() = http::StatusCode::NOT_FOUND;
            CallError::from_response(response)
        };
        assert!(matches!(
            answered(r#"{"data": {"data": null, "metadata": {"version": 2}}}"#),
            CallError::Deleted(_)
        ));
        for body in [r#"{"errors": []}"#, "", "<html>", r#"{"data": null}"#] {
            assert!(
                matches!(answered(body), CallError::Status { status: 404, .. }),
                "{body}"
            );
        }
    }

    #[test]
    fn a_dead_token_is_told_from_a_forbidden_path_where_the_server_says_so() {
        let answered = |texts: &[&str]| CallError::Status {
            status: 403,
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
            retry_after: None,
        };
        assert!(answered(&["permission denied", "invalid token"]).is_invalid_token());
        assert!(!answered(&["permission denied"]).is_invalid_token());
        assert!(answered(&["permission denied"]).is_forbidden());
        assert!(answered(&["1 error occurred:\n\t* permission denied\n\n"]).is_policy_denial());
        assert!(!answered(&["permission denied"]).is_policy_denial());
        assert!(
            !answered(&["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"])
                .is_policy_denial()
        );
    }
}
