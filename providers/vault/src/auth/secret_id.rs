//! Secret id of an AppRole.

use std::fmt;
use std::path::PathBuf;

use claviger::error::{ProviderError, ProviderErrorKind};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::AuthSecret;
use crate::api::{Api, Call};
use crate::path::error_at;

/// Secret id of an AppRole. Its `Debug` form shows no secret.
#[must_use = "give it to `Auth::app_role`"]
pub struct SecretId(SecretIdKind);

enum SecretIdKind {
    None,
    Plain(AuthSecret),
    Wrapped {
        token: AuthSecret,
        unwrapped: Mutex<Option<Unwrapped>>,
    },
}

/// An unwrapped secret id, kept for later logins. A wrapping token can be unwrapped once.
struct Unwrapped {
    token: SecretString,
    secret_id: SecretString,
}

#[derive(Deserialize)]
struct UnwrappedData {
    secret_id: String,
}

impl SecretId {
    /// Uses no secret id, for roles with `bind_secret_id=false`.
    pub fn none() -> Self {
        Self(SecretIdKind::None)
    }

    /// Uses this secret id.
    pub fn given(secret_id: impl Into<String>) -> Self {
        Self(SecretIdKind::Plain(AuthSecret::given(secret_id)))
    }

    /// Uses the secret id in a file, which is read again at each login.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(SecretIdKind::Plain(AuthSecret::file(path)))
    }

    /// Uses a response-wrapped secret id. The wrapping token is unwrapped once, at the first login.
    /// If it was unwrapped before, the error of the login names this cause.
    pub fn wrapped(token: impl Into<String>) -> Self {
        Self::wrapped_in(AuthSecret::given(token))
    }

    /// Uses a response-wrapped secret id, with the wrapping token in a file. Another one in the
    /// file is unwrapped at the next login.
    pub fn wrapped_file(path: impl Into<PathBuf>) -> Self {
        Self::wrapped_in(AuthSecret::file(path))
    }

    fn wrapped_in(token: AuthSecret) -> Self {
        Self(SecretIdKind::Wrapped {
            token,
            unwrapped: Mutex::new(None),
        })
    }

    pub(super) fn validate(&self) -> Result<(), ProviderError> {
        self.secret()
            .map_or(Ok(()), |secret| secret.validate("secret_id"))
    }

    /// Returns the secret id, or the token that wraps it.
    pub(super) fn secret(&self) -> Option<&AuthSecret> {
        match &self.0 {
            SecretIdKind::None => None,
            SecretIdKind::Plain(secret) | SecretIdKind::Wrapped { token: secret, .. } => {
                Some(secret)
            }
        }
    }

    /// Returns the current secret id.
    pub(super) async fn obtain(&self, api: &Api) -> Result<Option<SecretString>, ProviderError> {
        let (token, unwrapped) = match &self.0 {
            SecretIdKind::None => return Ok(None),
            SecretIdKind::Plain(secret) => return secret.read().await.map(Some),
            SecretIdKind::Wrapped { token, unwrapped } => (token, unwrapped),
        };
        let kept = |token: Option<&SecretString>| {
            let unwrapped = unwrapped.lock();
            let kept = unwrapped.as_ref().filter(|kept| {
                token.is_none_or(|token| kept.token.expose_secret() == token.expose_secret())
            });
            kept.map(|kept| kept.secret_id.clone())
        };
        let token = match token.read().await {
            Ok(token) => token,
            // The file of a wrapping token may be removed after delivery.
            Err(error) => return kept(None).map(Some).ok_or(error),
        };
        if let Some(secret_id) = kept(Some(&token)) {
            return Ok(Some(secret_id));
        }
        let place = format!("{}, sys/wrapping/unwrap", api.address());
        let response = api
            .send(
                Some(token.expose_secret()),
                Call::post("sys/wrapping/unwrap", json!({})),
            )
            .await;
        let envelope = response
            .and_then(|response| response.read::<UnwrappedData>())
            .map_err(|failure| match failure.status() {
                Some(400 | 403) => error_at(
                    &place,
                    ProviderErrorKind::Denied,
                    "the wrapping token of the secret id has expired or was already unwrapped, \
                    maybe by someone else",
                    "issue another",
                ),
                _ => failure.explain(&place, "issue another wrapping token"),
            })?;
        let Some(UnwrappedData { secret_id }) = envelope.data else {
            return Err(error_at(
                &place,
                ProviderErrorKind::Malformed,
                "the wrapped response has no secret id",
                "wrap the response of auth/approle/role/ROLE/secret-id",
            ));
        };
        let secret_id = SecretString::from(secret_id);
        let kept = Unwrapped {
            token,
            secret_id: secret_id.clone(),
        };
        *unwrapped.lock() = Some(kept);
        Ok(Some(secret_id))
    }
}

impl fmt::Debug for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            SecretIdKind::None => f.write_str("None"),
            SecretIdKind::Plain(secret) => secret.fmt(f),
            SecretIdKind::Wrapped { token, .. } => f.debug_tuple("Wrapped").field(token).finish(),
        }
    }
}
