//! What an error of a request means, and what to do. Statuses alone do not separate transient
//! errors from permanent ones, so texts are matched. No text is shown.

use claviger::error::{ProviderError, ProviderErrorKind as Kind};

use super::error::{CallError, CertificateError, PLAIN_HTTP_TEXT, REPLICATION_DELAY};
use crate::path::error_at;

impl CallError {
    /// Explains the error. `place` is the server and path; `grant` is the permission that is
    /// needed.
    pub(crate) fn explain(&self, place: &str, grant: &str) -> ProviderError {
        let error = |kind, problem: &str, action: &str| error_at(place, kind, problem, action);
        match self {
            Self::TimedOut => error(
                Kind::TimedOut,
                "the request timed out",
                "check the address, Vault's load, and for a firewall that drops packets",
            ),
            Self::TooManyLate => error(
                Kind::TimedOut,
                "3 earlier requests have no response yet",
                "check Vault's load and its database; another request follows when one of them \
                ends, after 120 s at most",
            ),
            Self::Unreachable => error(
                Kind::Unavailable,
                "Vault cannot be reached",
                "check the address and the network",
            ),
            Self::WithoutTls => error(
                Kind::Misconfigured,
                "the server does not speak TLS",
                "set an address that begins with http: if it is Vault's, and check for a proxy",
            ),
            Self::Certificate(certificate) => {
                let (kind, problem, action) = certificate.explain();
                error(kind, problem, action)
            }
            Self::InvalidResponse => error(
                Kind::Unavailable,
                "the response is not a complete one of Vault",
                "check the address and proxies",
            ),
            Self::Deleted(_) => error(Kind::NotFound, NOTHING, CHECK_PATH),
            Self::Status {
                status,
                retry_after,
                ..
            } => {
                let explained = self.explain_status(*status, place, grant);
                match retry_after {
                    Some(after) if matches!(status, 429 | 500..=599) => {
                        explained.with_retry_after(*after)
                    }
                    _ => explained,
                }
            }
        }
    }

    fn explain_status(&self, status: u16, place: &str, grant: &str) -> ProviderError {
        let error = |kind, problem: &str, action: &str| error_at(place, kind, problem, action);
        match status {
            300..=399 => error(
                Kind::Misconfigured,
                "Vault redirects to another address, which is sent neither token nor secrets",
                "set that address, or that of a load balancer before the active node",
            ),
            503 if self.mentions(&["sealed"]) => {
                error(Kind::Unavailable, "Vault is sealed", "unseal it")
            }
            429 => error(
                Kind::Throttled,
                "a quota of Vault is used up",
                "raise it, or use fewer processes",
            ),
            412 => error(
                Kind::Unavailable,
                "this node of Vault has not yet received what another one wrote",
                "nothing at first: the request is repeated. Check the cluster's replication",
            )
            .with_retry_after(REPLICATION_DELAY),
            472 | 473 => error(
                Kind::Unavailable,
                "this node of Vault is a standby that does not serve this",
                "set the address of the active one",
            ),
            500 if self.mentions(&["local node not active", "no active", "standby"]) => error(
                Kind::Unavailable,
                "this node of Vault is a standby without an active node",
                "check the cluster",
            ),
            400 if self.mentions(&[PLAIN_HTTP_TEXT]) => error(
                Kind::Misconfigured,
                "the server requires TLS",
                "set an address that begins with https",
            ),
            403 => error(Kind::Denied, "not allowed", grant),
            400 | 404
                if self.mentions(&["unknown role", "Unknown role", "role entry not found"]) =>
            {
                error(
                    Kind::NotFound,
                    "there is no such role",
                    "check its name, or create it",
                )
            }
            404 if self.mentions(&[
                "no handler for route",
                "unsupported path",
                "route entry not found",
            ]) =>
            {
                self.not_found(place, "nothing is mounted there", ENABLE_ENGINE)
            }
            404 => self.not_found(place, NOTHING, CHECK_PATH),
            _ if let Some((kind, problem, action)) = super::engine::explain(self, status) => {
                error(kind, &problem, action)
            }
            500..=599 => error(
                Kind::Unavailable,
                &format!("Vault has an internal error (HTTP status {status})"),
                "see Vault's log for this request, and its status",
            ),
            _ => error(
                Kind::Other,
                &format!("Vault returned HTTP status {status}"),
                "see Vault's log for this request, and check for a proxy",
            ),
        }
    }

    /// Explains status 404. A namespace that does not exist causes it, too.
    pub(crate) fn not_found(&self, place: &str, problem: &str, action: &str) -> ProviderError {
        let (problem, action) = match self {
            Self::Status {
                namespace: Some(namespace),
                ..
            } if self.is_without_namespace() => (
                format!("there is no namespace {namespace:?}"),
                "set \"namespace\" to an existing one".to_owned(),
            ),
            Self::Status {
                namespace: Some(namespace),
                ..
            } => (
                format!("{problem}, or there is no namespace {namespace:?}"),
                format!("check \"namespace\" first, then: {action}"),
            ),
            _ => (problem.to_owned(), action.to_owned()),
        };
        error_at(place, Kind::NotFound, &problem, &action)
    }
}

impl CertificateError {
    fn explain(self) -> (Kind, &'static str, &'static str) {
        match self {
            Self::Expired => (
                Kind::Unavailable,
                "Vault's certificate has expired",
                "renew it at Vault, or correct this machine's clock",
            ),
            Self::NotYetValid => (
                Kind::Unavailable,
                "Vault's certificate is not valid yet",
                "check this machine's clock",
            ),
            Self::OtherHost => (
                Kind::Misconfigured,
                "Vault's certificate is for another host",
                "set the host as in the certificate, or issue one for this host",
            ),
            Self::Untrusted => (
                Kind::Misconfigured,
                "Vault's certificate is not trusted",
                "set its CA certificate by \"ca_file\", and the host as in the certificate",
            ),
        }
    }
}

const NOTHING: &str = "there is nothing at this path";
const CHECK_PATH: &str = "check mount and name, or create it";
const ENABLE_ENGINE: &str = "check the mount, or enable the engine";

#[cfg(test)]
mod tests;
