//! Responses of the server. Without `Debug`, because they contain secrets.

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

/// Envelope of every response.
#[derive(Deserialize)]
pub(crate) struct Envelope<T> {
    #[serde(default)]
    pub(crate) lease_id: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    pub(crate) renewable: bool,
    pub(crate) data: Option<T>,
    pub(crate) auth: Option<LoginResponse>,
}

impl<T> Envelope<T> {
    pub(crate) fn lifetime(&self) -> Duration {
        Duration::from_secs(self.lease_duration)
    }
}

/// Response to a login, or to the renewal of a token.
#[derive(Deserialize)]
pub(crate) struct LoginResponse {
    pub(crate) client_token: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
    #[serde(default)]
    token_type: String,
}

/// Lifetime and type of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// `None` without an expiry.
    pub(crate) lifetime: Option<Duration>,
    pub(crate) renewable: bool,
    /// Whether it is a batch token, which cannot be renewed or revoked.
    pub(crate) batch: bool,
}

impl LoginResponse {
    pub(crate) fn grant(&self) -> Grant {
        let lifetime = (self.lease_duration > 0).then(|| Duration::from_secs(self.lease_duration));
        Grant {
            lifetime,
            renewable: self.renewable,
            batch: is_batch(&self.token_type),
        }
    }

    pub(crate) fn into_token(self) -> SecretString {
        SecretString::from(self.client_token)
    }
}

/// Response to the lookup of a token.
#[derive(Deserialize)]
pub(crate) struct TokenLookup {
    #[serde(default)]
    ttl: u64,
    /// Null without an expiry. `ttl` is 0 in this case, and in the last second of a lifetime.
    #[serde(default)]
    expire_time: Option<String>,
    #[serde(default)]
    renewable: bool,
    #[serde(default, rename = "type")]
    kind: String,
}

impl TokenLookup {
    pub(crate) fn grant(&self) -> Grant {
        let lifetime = self
            .expire_time
            .as_ref()
            .map(|_| Duration::from_secs(self.ttl));
        Grant {
            lifetime,
            renewable: self.renewable,
            batch: is_batch(&self.kind),
        }
    }
}

fn is_batch(kind: &str) -> bool {
    kind == "batch"
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_token_in_its_last_second_has_an_expiry() {
        let lifetime = |text: &str| {
            serde_json::from_str::<TokenLookup>(text)
                .unwrap()
                .grant()
                .lifetime
        };
        assert_eq!(
            lifetime(r#"{"ttl": 19, "expire_time": "2026-11-25T14:38:19.461778076Z"}"#),
            Some(Duration::from_secs(19))
        );
        assert_eq!(
            lifetime(r#"{"ttl": 0, "expire_time": "2026-11-25T14:38:00.567793416Z"}"#),
            Some(Duration::ZERO)
        );
        assert_eq!(lifetime(r#"{"ttl": 0, "expire_time": null}"#), None);
    }
}
