//! Identity of the service at the server.

mod secret;
mod secret_id;

use std::fmt;
use std::path::PathBuf;

use claviger::error::{ProviderError, ProviderErrorKind as Kind};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::api::{Api, Call, CallError, LoginResponse, Response};
use crate::path::{check_path, error_at, misconfigured};
pub(crate) use secret::AuthSecret;
pub use secret_id::SecretId;

/// Path at which Kubernetes mounts a pod's token.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Identity of a [`VaultSession`](crate::VaultSession). Its `Debug` form shows no secret.
/// [`VaultSessionBuilder::build`](crate::VaultSessionBuilder::build) reports invalid values.
///
/// | method | login | once its token cannot be renewed |
/// |---|---|---|
/// | [`token`](Self::token) | none; the token is external | it is used until it expires |
/// | [`token_file`](Self::token_file) | none; the file is read again when it changes | the session waits for the next token in the file |
/// | [`app_role`](Self::app_role), [`kubernetes`](Self::kubernetes), [`jwt`](Self::jwt), [`jwt_file`](Self::jwt_file) | returns a token | a new login, before it expires |
///
/// ```
/// use claviger_vault::{Auth, SecretId};
///
/// let auth = Auth::app_role("ROLE-ID", SecretId::file("/run/secrets/secret-id"))
///     .with_mount("approle-blue");
/// ```
#[must_use = "give it to `VaultSession::new` or `VaultSession::builder`"]
pub struct Auth {
    method: AuthMethod,
    mount: Option<String>,
}

enum AuthMethod {
    Token(AuthSecret),
    AppRole {
        role_id: String,
        secret_id: SecretId,
    },
    Kubernetes {
        role: String,
        jwt: AuthSecret,
    },
    Jwt {
        role: String,
        jwt: AuthSecret,
    },
}

impl Auth {
    /// Uses a token that was issued elsewhere. It is renewed while that is possible, and never
    /// revoked.
    pub fn token(token: impl Into<String>) -> Self {
        Self::from_method(AuthMethod::Token(AuthSecret::given(token)))
    }

    /// Uses a token in a file, as written by a sink of Vault Agent. The file is read every 2 s.
    /// Surrounding white space is not part of the token.
    pub fn token_file(path: impl Into<PathBuf>) -> Self {
        Self::from_method(AuthMethod::Token(AuthSecret::file(path)))
    }

    /// Uses the AppRole method. Default mount: `approle`.
    pub fn app_role(role_id: impl Into<String>, secret_id: SecretId) -> Self {
        Self::from_method(AuthMethod::AppRole {
            role_id: role_id.into(),
            secret_id,
        })
    }

    /// Uses the Kubernetes method with the pod's token, which is read again at each login. Default
    /// mount: `kubernetes`.
    pub fn kubernetes(role: impl Into<String>) -> Self {
        Self::kubernetes_file(role, SERVICE_ACCOUNT)
    }

    /// Uses the Kubernetes method with a service account's token in another file, such as a
    /// projected volume.
    pub fn kubernetes_file(role: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self::from_method(AuthMethod::Kubernetes {
            role: role.into(),
            jwt: AuthSecret::file(path),
        })
    }

    /// Uses the JWT method with a token that does not change. Default mount: `jwt`.
    pub fn jwt(role: impl Into<String>, jwt: impl Into<String>) -> Self {
        Self::from_method(AuthMethod::Jwt {
            role: role.into(),
            jwt: AuthSecret::given(jwt),
        })
    }

    /// Uses the JWT method with a token in a file, which is read again at each login.
    pub fn jwt_file(role: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self::from_method(AuthMethod::Jwt {
            role: role.into(),
            jwt: AuthSecret::file(path),
        })
    }

    /// Sets the mount of the method without `auth/`, such as `approle-blue`. Default: the method's
    /// name: `approle`, `kubernetes` or `jwt`.
    pub fn with_mount(mut self, mount: impl Into<String>) -> Self {
        self.mount = Some(mount.into());
        self
    }

    fn from_method(method: AuthMethod) -> Self {
        Self {
            method,
            mount: None,
        }
    }

    /// Checks the values. Sends no request.
    ///
    /// # Errors
    /// `Misconfigured`, naming the invalid setting.
    pub(crate) fn validate(&self) -> Result<(), ProviderError> {
        if let Some(mount) = &self.mount {
            check_path("mount", mount.clone())?;
        }
        match &self.method {
            AuthMethod::Token(_) if self.mount.is_some() => {
                Err(misconfigured("mount", "remove it; a token has no mount"))
            }
            AuthMethod::Token(token) => token.validate("token"),
            AuthMethod::AppRole { role_id, .. } if role_id.trim().is_empty() => {
                Err(misconfigured("role_id", "set the id of the role"))
            }
            AuthMethod::AppRole { secret_id, .. } => secret_id.validate(),
            AuthMethod::Kubernetes { role, .. } | AuthMethod::Jwt { role, .. }
                if role.trim().is_empty() =>
            {
                Err(misconfigured("role", "set its name"))
            }
            AuthMethod::Kubernetes { jwt, .. } | AuthMethod::Jwt { jwt, .. } => jwt.validate("jwt"),
        }
    }

    /// Returns the token, if it was issued elsewhere.
    pub(crate) fn external_token(&self) -> Option<&AuthSecret> {
        match &self.method {
            AuthMethod::Token(token) => Some(token),
            _ => None,
        }
    }

    /// Returns the secret of a login, or the external token.
    pub(crate) fn secret(&self) -> Option<&AuthSecret> {
        match &self.method {
            AuthMethod::Token(secret)
            | AuthMethod::Kubernetes { jwt: secret, .. }
            | AuthMethod::Jwt { jwt: secret, .. } => Some(secret),
            AuthMethod::AppRole { secret_id, .. } => secret_id.secret(),
        }
    }

    /// Returns whether a login returns a new token.
    pub(crate) fn has_login(&self) -> bool {
        self.external_token().is_none()
    }

    /// Logs in.
    ///
    /// # Errors
    /// Every error names the mount of the method and what to do.
    pub(crate) async fn login(&self, api: &Api) -> Result<LoginResponse, ProviderError> {
        let (method, body) = match &self.method {
            AuthMethod::Token(_) => {
                return Err(misconfigured(
                    "auth",
                    "a token has no login; set a method that has one",
                ));
            }
            AuthMethod::AppRole { role_id, secret_id } => {
                let mut body = json!({ "role_id": role_id });
                if let Some(secret_id) = secret_id.obtain(api).await?
                    && let Some(fields) = body.as_object_mut()
                {
                    fields.insert(
                        "secret_id".to_owned(),
                        Value::from(secret_id.expose_secret()),
                    );
                }
                ("approle", body)
            }
            AuthMethod::Kubernetes { role, jwt } => {
                ("kubernetes", with_jwt(role, &jwt.read().await?))
            }
            AuthMethod::Jwt { role, jwt } => ("jwt", with_jwt(role, &jwt.read().await?)),
        };
        let mount = self.mount.as_deref().unwrap_or(method);
        let response = api
            .send(
                None,
                Call::post(format!("auth/{mount}/login"), body).when_late(revoke_late_token(api)),
            )
            .await;
        let envelope = response
            .and_then(|response| response.read::<Value>())
            .map_err(|failure| {
                self.explain(
                    &format!("{}, login at auth/{mount}", api.address()),
                    &failure,
                )
            })?;
        match envelope.auth {
            Some(login) if crate::api::is_header_value(&login.client_token) => Ok(login),
            _ => Err(CallError::InvalidResponse.explain(
                &format!("{}, login at auth/{mount}", api.address()),
                GRANT_LOGIN,
            )),
        }
    }

    fn explain(&self, place: &str, failure: &CallError) -> ProviderError {
        let error = |kind, problem: &str, action: &str| error_at(place, kind, problem, action);
        match (&self.method, failure.status()) {
            (_, Some(404)) => failure.not_found(
                place,
                "no auth method is mounted there",
                "check the mount, and the namespace of the method, or enable the method",
            ),
            // Vault returns one response for all of these.
            (AuthMethod::AppRole { .. }, Some(400)) => error(
                Kind::Denied,
                "AppRole rejects role id or secret id: one is wrong or of another namespace, or \
                the secret id has expired or is used up",
                "issue another",
            ),
            // The status is the same if nothing is mounted there, or if Vault cannot reach the
            // cluster that reviews the token. The latter is transient.
            (AuthMethod::Kubernetes { .. }, Some(403 | 500))
                if !failure.mentions(&["not authorized"]) =>
            {
                error(
                    Kind::Unavailable,
                    "Vault rejects the service account's token without a reason",
                    "check the mount and the role, and that Vault reaches the cluster which \
                    reviews tokens",
                )
            }
            (_, Some(400 | 401 | 403)) => error(
                Kind::Denied,
                "the login is rejected",
                "check the mount, the role and its bound claims, and that the token is valid and \
                has not expired",
            ),
            _ => failure.explain(place, GRANT_LOGIN),
        }
    }
}

/// What to do if a login is denied.
const GRANT_LOGIN: &str = "permit logins by this method";

/// Returns a handler that revokes a token that was issued after the timeout. A batch token cannot
/// be revoked and stays valid until it expires.
fn revoke_late_token(api: &Api) -> impl FnOnce(Response) + Send + Sync + 'static {
    let api = api.clone();
    move |response| {
        let token = response
            .read::<Value>()
            .ok()
            .and_then(|envelope| envelope.auth)
            .map(LoginResponse::into_token);
        let Some(token) = token.filter(|token| crate::api::is_header_value(token.expose_secret()))
        else {
            return;
        };
        tokio::spawn(async move {
            let revoked = api
                .send_with_new_token(token.expose_secret(), || {
                    Call::post("auth/token/revoke-self", json!({}))
                })
                .await;
            if let Err(failure) = revoked {
                let error = failure.explain(
                    &format!("{}, auth/token/revoke-self", api.address()),
                    "grant `update` on auth/token/revoke-self",
                );
                tracing::warn!(
                    error = %error,
                    "a token that was issued after the timeout was not revoked; it stays valid \
                     until it expires"
                );
            }
        });
    }
}

fn with_jwt(role: &str, jwt: &SecretString) -> Value {
    json!({ "role": role, "jwt": jwt.expose_secret() })
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = match &self.method {
            AuthMethod::Token(token) => {
                let mut shown = f.debug_struct("Token");
                shown.field("token", token);
                shown
            }
            AuthMethod::AppRole { secret_id, .. } => {
                let mut shown = f.debug_struct("AppRole");
                shown
                    .field("role_id", &"[redacted]")
                    .field("secret_id", secret_id);
                shown
            }
            AuthMethod::Kubernetes { role, jwt } => {
                let mut shown = f.debug_struct("Kubernetes");
                shown.field("role", role).field("jwt", jwt);
                shown
            }
            AuthMethod::Jwt { role, jwt } => {
                let mut shown = f.debug_struct("Jwt");
                shown.field("role", role).field("jwt", jwt);
                shown
            }
        };
        shown.field("mount", &self.mount).finish()
    }
}

#[cfg(test)]
mod tests;
