//! Who we are to the server.

mod material;
mod secret_id;

use std::fmt;
use std::path::PathBuf;

use claviger::ProviderError;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::api::{Answer, Api, Call, Failure, LogIn};
use crate::path::{checked, misconfigured};
pub(crate) use material::Material;
pub use secret_id::SecretId;

/// Where Kubernetes mounts a pod's token.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// How a [`VaultSession`](crate::VaultSession) verifies who it is. Its `Debug` form shows no
/// secret.
///
/// | made by | each login | once its token cannot be renewed |
/// |---|---|---|
/// | [`token`](Self::token) | none; the token is somebody else's | it is used to its end |
/// | [`token_file`](Self::token_file) | none; the file is read again when it changes | the file is waited for |
/// | [`app_role`](Self::app_role), [`kubernetes`](Self::kubernetes), [`jwt`](Self::jwt), [`jwt_file`](Self::jwt_file) | gives a token of the session's own | a new login, well before |
pub struct Auth {
    kind: Kind,
    mount: Option<String>,
}

enum Kind {
    Token(Material),
    AppRole {
        role_id: String,
        secret_id: SecretId,
    },
    Kubernetes {
        role: String,
        jwt: Material,
    },
    Jwt {
        role: String,
        jwt: Material,
    },
}

impl Auth {
    /// A token that was issued elsewhere. It is renewed while that is possible, and never revoked.
    pub fn token(token: impl Into<String>) -> Self {
        Self::of(Kind::Token(Material::given(token)))
    }

    /// A token in a file, as Vault Agent's sink writes it. The file is looked at every 2 s and read
    /// again when it changes; surrounding white space is not part of the token.
    pub fn token_file(path: impl Into<PathBuf>) -> Self {
        Self::of(Kind::Token(Material::file(path)))
    }

    /// The AppRole method, mounted at `approle` unless [`mount`](Self::mount) says otherwise.
    pub fn app_role(role_id: impl Into<String>, secret_id: SecretId) -> Self {
        Self::of(Kind::AppRole {
            role_id: role_id.into(),
            secret_id,
        })
    }

    /// The Kubernetes method, mounted at `kubernetes` unless [`mount`](Self::mount) says otherwise,
    /// with the pod's token, which is read anew at each login.
    pub fn kubernetes(role: impl Into<String>) -> Self {
        Self::kubernetes_file(role, SERVICE_ACCOUNT)
    }

    /// [`kubernetes`](Self::kubernetes) with a service account's token in another file, as a
    /// projected volume has it.
    pub fn kubernetes_file(role: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self::of(Kind::Kubernetes {
            role: role.into(),
            jwt: Material::file(path),
        })
    }

    /// The JWT method, mounted at `jwt` unless [`mount`](Self::mount) says otherwise, with a token
    /// that does not change.
    pub fn jwt(role: impl Into<String>, jwt: impl Into<String>) -> Self {
        Self::of(Kind::Jwt {
            role: role.into(),
            jwt: Material::given(jwt),
        })
    }

    /// [`jwt`](Self::jwt) with a token in a file, which is read anew at each login.
    pub fn jwt_file(role: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self::of(Kind::Jwt {
            role: role.into(),
            jwt: Material::file(path),
        })
    }

    /// Where the method is mounted, as `approle-blue`: what follows `auth/`.
    #[must_use]
    pub fn mount(mut self, mount: impl Into<String>) -> Self {
        self.mount = Some(mount.into());
        self
    }

    fn of(kind: Kind) -> Self {
        Self { kind, mount: None }
    }

    /// # Errors
    /// `Misconfigured`, naming the setting that cannot be right.
    pub(crate) fn validate(&self) -> Result<(), ProviderError> {
        if let Some(mount) = &self.mount {
            checked("mount", mount.clone())?;
        }
        match &self.kind {
            Kind::Token(_) if self.mount.is_some() => {
                Err(misconfigured("mount", "a token needs none"))
            }
            Kind::Token(token) => token.validate("token"),
            Kind::AppRole { role_id, .. } if role_id.trim().is_empty() => {
                Err(misconfigured("role_id", "give the role's id"))
            }
            Kind::AppRole { secret_id, .. } => secret_id.validate(),
            Kind::Kubernetes { role, .. } | Kind::Jwt { role, .. } if role.trim().is_empty() => {
                Err(misconfigured("role", "give its name"))
            }
            Kind::Kubernetes { jwt, .. } | Kind::Jwt { jwt, .. } => jwt.validate("jwt"),
        }
    }

    /// The token, where it is somebody else's.
    pub(crate) fn foreign_token(&self) -> Option<&Material> {
        match &self.kind {
            Kind::Token(token) => Some(token),
            _ => None,
        }
    }

    /// What is given or read at a login, or in place of one.
    pub(crate) fn material(&self) -> Option<&Material> {
        match &self.kind {
            Kind::Token(material)
            | Kind::Kubernetes { jwt: material, .. }
            | Kind::Jwt { jwt: material, .. } => Some(material),
            Kind::AppRole { secret_id, .. } => secret_id.material(),
        }
    }

    /// Whether a new token can be had by asking for it.
    pub(crate) fn can_log_in(&self) -> bool {
        self.foreign_token().is_none()
    }

    /// Logs in.
    ///
    /// # Errors
    /// Each says which method at which mount, and what to do.
    pub(crate) async fn log_in(&self, api: &Api) -> Result<LogIn, ProviderError> {
        let (method, body) = match &self.kind {
            Kind::Token(_) => return Err(misconfigured("auth", "a token logs in nowhere")),
            Kind::AppRole { role_id, secret_id } => {
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
            Kind::Kubernetes { role, jwt } => ("kubernetes", with_jwt(role, &jwt.read().await?)),
            Kind::Jwt { role, jwt } => ("jwt", with_jwt(role, &jwt.read().await?)),
        };
        let mount = self.mount.as_deref().unwrap_or(method);
        let answer = api
            .ask(
                None,
                Call::post(format!("auth/{mount}/login"), body).when_late(late_token(api)),
            )
            .await;
        let envelope = answer
            .and_then(|answer| answer.read::<Value>())
            .map_err(|failure| {
                self.explain(
                    &format!("{}, login at auth/{mount}", api.address()),
                    &failure,
                )
            })?;
        match envelope.auth {
            Some(log_in) if crate::api::is_header(&log_in.client_token) => Ok(log_in),
            _ => {
                Err(Failure::Garbled
                    .explain(&format!("{}, login at auth/{mount}", api.address()), ""))
            }
        }
    }

    fn explain(&self, place: &str, failure: &Failure) -> ProviderError {
        use claviger::ProviderErrorKind as Kind;
        let error = |kind, problem: &str| ProviderError::new(kind, format!("{place}: {problem}"));
        match (&self.kind, failure.status()) {
            (_, Some(404)) => error(
                Kind::NotFound,
                "no auth method is mounted there; see to the mount, or enable the method",
            ),
            // One and the same answer for all of these.
            (self::Kind::AppRole { .. }, Some(400)) => error(
                Kind::Denied,
                "AppRole rejects role id or secret id: one is wrong, or the secret id has expired or is used up; issue another",
            ),
            // Also when the mount is not there, and when Vault cannot reach the cluster that
            // reviews the token: that may pass.
            (self::Kind::Kubernetes { .. }, Some(403 | 500))
                if !failure.says(&["not authorized"]) =>
            {
                error(
                    Kind::Unavailable,
                    "Vault rejects the service account's token and does not say why: see to the mount, to the role, and that Vault reaches the cluster which reviews tokens",
                )
            }
            (_, Some(400 | 401 | 403)) => error(
                Kind::Denied,
                "the login is rejected: see to the mount, to the role and what it is bound to, and that the token it is given is valid and has not expired",
            ),
            _ => failure.explain(place, "grant it"),
        }
    }
}

/// Gives back a token that comes when nobody waits for it any more. A batch token cannot be: it
/// lives to its own end.
fn late_token(api: &Api) -> impl FnOnce(Answer) + Send + Sync + 'static {
    let api = api.clone();
    move |answer| {
        let token = answer
            .read::<Value>()
            .ok()
            .and_then(|envelope| envelope.auth)
            .map(LogIn::into_token);
        let Some(token) = token.filter(|token| crate::api::is_header(token.expose_secret())) else {
            return;
        };
        tokio::spawn(async move {
            let revoked = api
                .ask_with_new(token.expose_secret(), || {
                    Call::post("auth/token/revoke-self", json!({}))
                })
                .await;
            if let Err(failure) = revoked {
                let error = failure.explain(
                    &format!("{}, auth/token/revoke-self", api.address()),
                    "grant `update` on auth/token/revoke-self",
                );
                tracing::warn!(error = %error, "a token came after the time-out and was not revoked; it lives to its own end");
            }
        });
    }
}

fn with_jwt(role: &str, jwt: &SecretString) -> Value {
    json!({ "role": role, "jwt": jwt.expose_secret() })
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = match &self.kind {
            Kind::Token(token) => {
                let mut shown = f.debug_struct("Token");
                shown.field("token", token);
                shown
            }
            Kind::AppRole { secret_id, .. } => {
                let mut shown = f.debug_struct("AppRole");
                shown
                    .field("role_id", &"[redacted]")
                    .field("secret_id", secret_id);
                shown
            }
            Kind::Kubernetes { role, jwt } => {
                let mut shown = f.debug_struct("Kubernetes");
                shown.field("role", role).field("jwt", jwt);
                shown
            }
            Kind::Jwt { role, jwt } => {
                let mut shown = f.debug_struct("Jwt");
                shown.field("role", role).field("jwt", jwt);
                shown
            }
        };
        shown.field("mount", &self.mount).finish()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use claviger::ProviderErrorKind;

    const CANARY: &str = "CANARY";

    fn failure(status: u16, text: &str) -> Failure {
        Failure::Answered {
            status,
            texts: vec![format!("{text} {CANARY}")],
            retry_after: None,
        }
    }

    #[test]
    fn a_slip_is_told_by_the_name_of_the_setting_and_without_the_secret() {
        for (auth, name) in [
            (Auth::token(""), "`token`"),
            (Auth::token("CANARY\n"), "`token`"),
            (Auth::token("CANARÜ"), "`token`"),
            (Auth::token("CANARY").mount("x"), "`mount`"),
            (Auth::app_role(" ", SecretId::none()), "`role_id`"),
            (Auth::app_role("r", SecretId::given("")), "`secret_id`"),
            (
                Auth::app_role("r", SecretId::wrapped("CANARY x")),
                "`secret_id`",
            ),
            (
                Auth::app_role("r", SecretId::none()).mount("/approle"),
                "`mount`",
            ),
            (Auth::kubernetes(""), "`role`"),
            (Auth::jwt("r", ""), "`jwt`"),
        ] {
            let error = auth.validate().unwrap_err();
            assert_eq!(error.kind(), ProviderErrorKind::Misconfigured);
            assert!(error.to_string().starts_with(name), "{error}");
            assert!(
                !format!("{error:?} {auth:?}").contains("CANAR"),
                "{error:?} {auth:?}"
            );
        }
    }

    #[test]
    fn a_rejected_login_names_what_may_be_wrong() {
        let app_role = Auth::app_role("r", SecretId::given("s"));
        for (auth, status, text, kind) in [
            (
                &app_role,
                400,
                "invalid role or secret ID",
                ProviderErrorKind::Denied,
            ),
            (
                &app_role,
                404,
                "no handler for route",
                ProviderErrorKind::NotFound,
            ),
            (
                &app_role,
                403,
                "permission denied",
                ProviderErrorKind::Denied,
            ),
            (
                &app_role,
                503,
                "Vault is sealed",
                ProviderErrorKind::Unavailable,
            ),
            (
                &Auth::kubernetes("r"),
                403,
                "permission denied",
                ProviderErrorKind::Unavailable,
            ),
            (
                &Auth::kubernetes("r"),
                403,
                "service account name not authorized",
                ProviderErrorKind::Denied,
            ),
            (
                &Auth::jwt("r", "j"),
                400,
                "error validating token",
                ProviderErrorKind::Denied,
            ),
            (&Auth::jwt("r", "j"), 429, "", ProviderErrorKind::Throttled),
        ] {
            let error = auth.explain("PLACE", &failure(status, text));
            assert_eq!(error.kind(), kind, "{auth:?} {status} {text}: {error}");
            let shown = format!("{error} {error:?}");
            assert!(
                shown.contains("PLACE") && !shown.contains(CANARY),
                "{shown}"
            );
        }
    }
}
