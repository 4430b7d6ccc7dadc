//! A login in a key-value store with versions.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use claviger::{
    Credentials, FetchRequest, Fetched, Hints, Lease, OldConnections, Provider, ProviderError,
    ProviderErrorKind, Revision, Timestamp,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::api::{Call, CallError};
use crate::path::MountPath;
use crate::session::{LeaseBinding, SessionError, SessionUser, VaultSession};

/// How long metadata that were denied are not asked for again: whoever grants them later needs no
/// restart.
const METADATA_RETRY_INTERVAL: Duration = Duration::from_secs(3_600);

/// Advice for a path of the API in place of a secret's name.
const API_PATH_ADVICE: &str = "give mount and path as `vault kv get` takes them, without `data/` or `metadata/`, which is added here";

/// A login in a KV store of version 2.
///
/// The revision is the version, with the time at which it was written; a lease has no death, and
/// open sessions are [drained](OldConnections::Drain) when a newer version is served. The store is polled
/// by the secret's metadata every 5 minutes (`Supervisor::builder().with_poll_interval(…)`); its
/// data are read when the version is another one, and at each poll only where the policy does not
/// let the metadata be read, which is tried again each hour.
///
/// A version that was deleted or destroyed is an error, `NotFound`, that says so; what was served
/// before goes on serving.
///
/// ```
/// use claviger_vault::{Auth, VaultKv, VaultSession};
///
/// # fn provider() -> Result<VaultKv, claviger::ProviderError> {
/// let session = VaultSession::new("https://vault.internal:8200", Auth::token_file("/run/vault/token"))?;
/// // {"login": "orders", "pw": "s3cret"}
/// let provider = VaultKv::new(&session, "secret", "prod/orders-db")?.user_key("login").password_key("pw");
/// # Ok(provider)
/// # }
/// ```
///
/// Errors are those of [`VaultDynamic`](crate::VaultDynamic).
pub struct VaultKv {
    session: VaultSession,
    secret: MountPath,
    user_key: String,
    password_key: String,
    old_connections: OldConnections,
    /// When the metadata were denied last.
    denied: Mutex<Option<Instant>>,
    user: SessionUser,
}

#[derive(Deserialize)]
struct Metadata {
    current_version: u64,
    #[serde(default)]
    versions: std::collections::HashMap<String, Version>,
}

#[derive(Deserialize)]
struct Data {
    data: Option<Map<String, Value>>,
    metadata: Version,
}

/// One version, as metadata and data both tell of it.
#[derive(Clone, Deserialize)]
struct Version {
    #[serde(default)]
    version: u64,
    #[serde(default)]
    created_time: String,
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

impl VaultKv {
    /// The secret at `path` of the store at `mount`, as `secret`, with the keys `username` and
    /// `password`.
    ///
    /// # Errors
    /// `Misconfigured`, naming `mount` or `path`.
    pub fn new(
        session: &VaultSession,
        mount: impl Into<String>,
        path: impl Into<String>,
    ) -> Result<Self, ProviderError> {
        Ok(Self {
            session: session.clone(),
            secret: MountPath::new(mount, "path", path)?,
            user_key: "username".to_owned(),
            password_key: "password".to_owned(),
            old_connections: OldConnections::Drain,
            denied: Mutex::default(),
            user: session.user(),
        })
    }

    /// The key of the user; `username` by default.
    #[must_use]
    pub fn user_key(mut self, key: impl Into<String>) -> Self {
        self.user_key = key.into();
        self
    }

    /// The key of the password; `password` by default.
    #[must_use]
    pub fn password_key(mut self, key: impl Into<String>) -> Self {
        self.password_key = key.into();
        self
    }

    /// What becomes of open sessions when a newer version is served; [`OldConnections::Drain`] by
    /// default.
    #[must_use]
    pub fn with_old_connections(mut self, old_connections: OldConnections) -> Self {
        self.old_connections = old_connections;
        self
    }

    /// The current version by the metadata; `None` when they may not be read.
    async fn current(&self) -> Result<Option<Revision>, ProviderError> {
        let now = self.session.now().mono();
        let denied = *self.denied();
        if denied
            .is_some_and(|since| now.saturating_duration_since(since) < METADATA_RETRY_INTERVAL)
        {
            return Ok(None);
        }
        let path = self.secret.below("metadata");
        let (envelope, _) = match self
            .session
            .request::<Metadata>(false, || Call::get(path.clone()).optional())
            .await
        {
            Ok(answer) => answer,
            Err(SessionError::Call(failure)) if failure.is_forbidden() => {
                *self.denied() = Some(now);
                return Ok(None);
            }
            Err(error) => return Err(self.explain(error, &path)),
        };
        *self.denied() = None;
        let Some(metadata) = envelope.data else {
            return Err(self.malformed("it has no metadata"));
        };
        let number = metadata.current_version;
        let Some(version) = metadata.versions.get(&number.to_string()).cloned() else {
            return Err(self.not_found(&format!("it has no version {number}; write one")));
        };
        self.revision(&Version {
            version: number,
            ..version
        })
        .map(Some)
    }

    fn denied(&self) -> MutexGuard<'_, Option<Instant>> {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self) -> Result<Lease<Credentials>, ProviderError> {
        let path = self.secret.below("data");
        let (envelope, _) = match self
            .session
            .request::<Data>(false, || Call::get(path.clone()))
            .await
        {
            Ok(answer) => answer,
            Err(error) => return Err(self.explain(error, &path)),
        };
        let Some(Data { data, metadata }) = envelope.data else {
            return Err(self.malformed("it has no data"));
        };
        let revision = self.revision(&metadata)?;
        let data = data.unwrap_or_default();
        let text = |key: &str| match data.get(key) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            Some(_) => Err(self.malformed(&format!(
                "its key `{key}` has to be a text that is not empty"
            ))),
            None => Err(self.malformed(&format!(
                "its key `{key}` is missing; write it, or name another"
            ))),
        };
        let login = Credentials::new(text(&self.user_key)?, text(&self.password_key)?);
        Ok(Lease::new(login, revision).with_old_connections(self.old_connections))
    }

    /// A secret that was removed and written anew begins at version 1 again: the time tells them
    /// apart.
    fn revision(&self, version: &Version) -> Result<Revision, ProviderError> {
        let Version {
            version: number,
            created_time,
            deletion_time,
            destroyed,
        } = version;
        if *destroyed {
            return Err(
                self.not_found(&format!("its version {number} was destroyed; write another. What was served before goes on serving"))
            );
        }
        // In the future it says when the store will forget the version, which the database does not
        // know of.
        if !deletion_time.is_empty() && is_past(deletion_time, self.session.now()) {
            return Err(self.not_found(&format!(
                "its version {number} was deleted; undelete it or write another. What was served before goes on serving"
            )));
        }
        Ok(Revision::new(format!(
            "{} {number} of {created_time}",
            self.secret
        )))
    }

    fn explain(&self, error: SessionError, path: &str) -> ProviderError {
        match error.call_error() {
            Some(CallError::Deleted(answer)) => {
                let explained = answer.read::<Data>().ok().and_then(|envelope| self.revision(&envelope.data?.metadata).err());
                explained.unwrap_or_else(|| self.not_found("its current version is gone; see to it, or write one"))
            }
            Some(failure) if failure.mentions(&["pgrading from non-versioned"]) => {
                self.error(ProviderErrorKind::Unavailable, "the store is being upgraded and is there in a moment")
            }
            Some(failure) if failure.status() == Some(404) && self.secret.looks_like_api_path() => {
                self.not_found(&format!("there is none; {API_PATH_ADVICE}"))
            }
            Some(failure) if failure.status() == Some(404) && !failure.mentions(&["no handler for route"]) => {
                self.not_found("there is none; see to mount and path, or write one. The mount has to be a KV store of version 2")
            }
            Some(failure) if failure.is_forbidden() && self.secret.looks_like_api_path() => {
                self.error(ProviderErrorKind::Denied, &format!("not allowed; {API_PATH_ADVICE}, or grant `read` on {path}"))
            }
            _ => error.explain(&self.session.place(path), &format!("grant `read` on {path}")),
        }
    }

    fn not_found(&self, problem: &str) -> ProviderError {
        self.error(ProviderErrorKind::NotFound, problem)
    }

    fn malformed(&self, problem: &str) -> ProviderError {
        self.error(ProviderErrorKind::Malformed, problem)
    }

    fn error(&self, kind: ProviderErrorKind, problem: &str) -> ProviderError {
        ProviderError::new(
            kind,
            format!(
                "{}: {problem}",
                self.session.place(&format!("secret {}", self.secret))
            ),
        )
    }
}

/// A time that cannot be read is taken to have passed: the version is not to be had, else there
/// would be none.
fn is_past(time: &str, now: Timestamp) -> bool {
    humantime::parse_rfc3339(time).map_or(true, |time| time <= now.wall())
}

impl Provider for VaultKv {
    type Secret = Credentials;

    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        self.user.join(request.clock());
        let Some(held) = request.held else {
            return self.read().await.map(Fetched::New);
        };
        match self.current().await? {
            Some(current) if current == *held.revision() => Ok(Fetched::Unchanged),
            // A version written between the two requests is the better one.
            _ => self.read().await.map(Fetched::New),
        }
    }

    async fn watch(&self, hints: Hints) {
        self.session.maintain(&hints, LeaseBinding::None).await;
    }

    async fn close(&self) {
        self.user.leave().await;
    }
}

impl fmt::Debug for VaultKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultKv")
            .field("session", &self.session)
            .field("secret", &self.secret)
            .field("user_key", &self.user_key)
            .field("password_key", &self.password_key)
            .field("old_connections", &self.old_connections)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
