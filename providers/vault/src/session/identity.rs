//! What the server reports of the session's token, for diagnoses.

use std::time::Duration;

use claviger::error::ProviderError;
use serde::Deserialize;
use serde_json::json;

use super::VaultSession;
use crate::api::{Call, CallError};

const LOOKUP: &str = "auth/token/lookup-self";
const CAPABILITIES: &str = "sys/capabilities-self";

/// The token of a session, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenIdentity {
    /// Name by which the server's audit log shows it, such as `kubernetes-orders`.
    pub display_name: String,
    /// Names of its policies.
    pub policies: Vec<String>,
    /// Time until it expires. `None` without an expiry.
    pub remaining: Option<Duration>,
}

#[derive(Deserialize)]
struct Lookup {
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    policies: Vec<String>,
    #[serde(default)]
    identity_policies: Option<Vec<String>>,
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    expire_time: Option<String>,
}

#[derive(Deserialize)]
struct Capabilities {
    capabilities: Vec<String>,
}

impl VaultSession {
    /// Requests the identity of the session's token. Without a token, the session logs in first.
    ///
    /// Only a provider that has fetched revokes the token of a login when it is closed. So call this
    /// after a fetch.
    ///
    /// # Errors
    /// As those of a fetch. The policy `default` permits this request.
    ///
    /// # Cancel safety
    /// Dropping the future is safe.
    pub async fn identity(&self) -> Result<TokenIdentity, ProviderError> {
        let explained = |error: super::SessionError| {
            error.explain(
                &self.place(LOOKUP),
                "grant `read` on auth/token/lookup-self",
            )
        };
        let lookup = || Call::get(LOOKUP).optional();
        let (envelope, _) = self
            .request::<Lookup>(false, lookup)
            .await
            .map_err(explained)?;
        let Some(lookup) = envelope.data else {
            return Err(CallError::InvalidResponse.explain(&self.place(LOOKUP), ""));
        };
        let mut policies = lookup.policies;
        policies.extend(lookup.identity_policies.unwrap_or_default());
        Ok(TokenIdentity {
            display_name: lookup.display_name,
            policies,
            remaining: lookup.expire_time.map(|_| Duration::from_secs(lookup.ttl)),
        })
    }

    /// Requests what the session's token may do at a path, such as `database/creds/orders`: names
    /// such as `read`, or `deny`.
    ///
    /// # Errors
    /// As [`identity`](Self::identity).
    ///
    /// # Cancel safety
    /// Dropping the future is safe.
    pub async fn capabilities(&self, path: &str) -> Result<Vec<String>, ProviderError> {
        let explained = |error: super::SessionError| {
            error.explain(
                &self.place(CAPABILITIES),
                "grant `update` on sys/capabilities-self",
            )
        };
        let call = || Call::post(CAPABILITIES, json!({ "paths": [path] })).optional();
        let (envelope, _) = self
            .request::<Capabilities>(false, call)
            .await
            .map_err(explained)?;
        let capabilities = envelope.data.map(|data| data.capabilities);
        capabilities
            .ok_or_else(|| CallError::InvalidResponse.explain(&self.place(CAPABILITIES), ""))
    }
}
