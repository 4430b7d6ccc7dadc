//! The second half of an AppRole.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use claviger::{ProviderError, ProviderErrorKind};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::AuthSecret;
use crate::api::{Api, Call};

/// The secret id of an AppRole: where it comes from. Its `Debug` form shows no secret.
pub struct SecretId(SecretIdKind);

enum SecretIdKind {
    None,
    Plain(AuthSecret),
    Wrapped {
        token: AuthSecret,
        unwrapped: Mutex<Option<Unwrapped>>,
    },
}

/// A wrapping token opens once: what was in it is kept for the next logins.
struct Unwrapped {
    token: SecretString,
    secret_id: SecretString,
}

#[derive(Deserialize)]
struct UnwrappedData {
    secret_id: String,
}

impl SecretId {
    /// For roles with `bind_secret_id=false`.
    pub fn none() -> Self {
        Self(SecretIdKind::None)
    }

    /// The secret id itself.
    pub fn given(secret_id: impl Into<String>) -> Self {
        Self(SecretIdKind::Plain(AuthSecret::given(secret_id)))
    }

    /// In a file, which is read anew at each login.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(SecretIdKind::Plain(AuthSecret::file(path)))
    }

    /// Response-wrapped: a wrapping token, which is unwrapped at the first login and once. Where
    /// somebody else has opened it before, the login is denied and says so.
    pub fn wrapped(token: impl Into<String>) -> Self {
        Self::wrapped_in(AuthSecret::given(token))
    }

    /// Response-wrapped, the wrapping token in a file. Another one in the file is unwrapped at the
    /// next login.
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

    /// Itself, or the token that it is wrapped by.
    pub(super) fn secret(&self) -> Option<&AuthSecret> {
        match &self.0 {
            SecretIdKind::None => None,
            SecretIdKind::Plain(secret) | SecretIdKind::Wrapped { token: secret, .. } => {
                Some(secret)
            }
        }
    }

    /// The secret id as it is now.
    pub(super) async fn obtain(&self, api: &Api) -> Result<Option<SecretString>, ProviderError> {
        let (token, unwrapped) = match &self.0 {
            SecretIdKind::None => return Ok(None),
            SecretIdKind::Plain(secret) => return secret.read().await.map(Some),
            SecretIdKind::Wrapped { token, unwrapped } => (token, unwrapped),
        };
        let known = |token: Option<&SecretString>| {
            let unwrapped = unwrapped.lock().unwrap_or_else(PoisonError::into_inner);
            let known = unwrapped.as_ref().filter(|known| {
                token.is_none_or(|token| known.token.expose_secret() == token.expose_secret())
            });
            known.map(|known| known.secret_id.clone())
        };
        let token = match token.read().await {
            Ok(token) => token,
            // Whoever delivers a wrapping token may take its file away again.
            Err(error) => return known(None).map(Some).ok_or(error),
        };
        if let Some(secret_id) = known(Some(&token)) {
            return Ok(Some(secret_id));
        }
        let place = format!("{}, sys/wrapping/unwrap", api.address());
        let answer = api
            .send(
                Some(token.expose_secret()),
                Call::post("sys/wrapping/unwrap", json!({})),
            )
            .await;
        let envelope = answer.and_then(|answer| answer.read::<UnwrappedData>()).map_err(|failure| match failure.status() {
            Some(400 | 403) => ProviderError::new(
                ProviderErrorKind::Denied,
                format!("{place}: the wrapping token of the secret id has expired or was unwrapped already, maybe by somebody who should not; issue another"),
            ),
            _ => failure.explain(&place, "grant it"),
        })?;
        let Some(UnwrappedData { secret_id }) = envelope.data else {
            return Err(ProviderError::new(
                ProviderErrorKind::Malformed,
                format!("{place}: what was wrapped is no secret id"),
            ));
        };
        let secret_id = SecretString::from(secret_id);
        let opened = Unwrapped {
            token,
            secret_id: secret_id.clone(),
        };
        *unwrapped.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened);
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
