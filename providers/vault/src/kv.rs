//! Credentials in a key-value store with versions.

mod builder;

use std::fmt;
use std::time::{Duration, Instant};

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::lease::{OldConnections, Timestamp};
use claviger::provider::{FetchRequest, Fetched, Hints};
use claviger::{Credentials, Lease, Provider, Revision};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::api::{Call, CallError};
use crate::path::{MountPath, error_at};
use crate::session::{LeaseBinding, SessionError, SessionUser, VaultSession};

pub use builder::VaultKvBuilder;

/// Time after which denied metadata are requested again, so that a later grant needs no restart.
const METADATA_RETRY_INTERVAL: Duration = Duration::from_secs(3_600);

/// Advice for a mount or path that contains the API's prefix.
const API_PATH_ADVICE: &str = "set mount and path as for `vault kv get`, without `data/` or \
    `metadata/`, which is added automatically";

/// Reads database credentials from a KV store of version 2.
///
/// The revision is the version with its creation time. A lease has no expiry. Open connections
/// [drain](OldConnections::Drain) once a newer version is current. The secret's metadata are polled
/// every 5 minutes (`Supervisor::builder().with_poll_interval(…)`). Its data are read if the
/// version has changed. If the policy does not allow reading the metadata, the data are polled, and
/// the metadata are tried again once an hour.
///
/// A deleted or destroyed version is an error, `NotFound`. The current lease stays in use.
///
/// ```
/// use claviger_vault::{Auth, VaultKv, VaultSession};
///
/// # fn provider() -> Result<VaultKv, claviger::error::ProviderError> {
/// let auth = Auth::token_file("/run/vault/token");
/// let session = VaultSession::new("https://vault.internal:8200", auth)?;
/// let provider = VaultKv::new(&session, "secret", "prod/orders-db")?;
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
    /// Time at which the metadata were denied last.
    metadata_denied: Mutex<Option<Instant>>,
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

/// A version, as in the responses to both requests.
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
    /// Reads the secret at `path` of the store at `mount`, such as `secret`, with the keys
    /// `username` and `password`.
    ///
    /// # Errors
    /// As [`VaultKvBuilder::build`].
    pub fn new(
        session: &VaultSession,
        mount: impl Into<String>,
        path: impl Into<String>,
    ) -> Result<Self, ProviderError> {
        Self::builder(session, mount, path).build()
    }

    /// Returns a builder for the secret at `path` of the store at `mount`.
    pub fn builder(
        session: &VaultSession,
        mount: impl Into<String>,
        path: impl Into<String>,
    ) -> VaultKvBuilder {
        VaultKvBuilder::new(session, mount.into(), path.into())
    }

    /// Returns the revision of the current version; `None` if reading the metadata is denied.
    async fn current_revision(&self) -> Result<Option<Revision>, ProviderError> {
        let now = self.session.now().mono();
        let denied = *self.metadata_denied.lock();
        if denied
            .is_some_and(|since| now.saturating_duration_since(since) < METADATA_RETRY_INTERVAL)
        {
            return Ok(None);
        }
        let path = self.secret.api_path("metadata");
        let (envelope, _) = match self
            .session
            .request::<Metadata>(false, || Call::get(path.clone()).optional())
            .await
        {
            Ok(response) => response,
            Err(SessionError::Call(failure)) if failure.is_forbidden() => {
                *self.metadata_denied.lock() = Some(now);
                return Ok(None);
            }
            Err(error) => return Err(self.explain(error, &path)),
        };
        *self.metadata_denied.lock() = None;
        let Some(metadata) = envelope.data else {
            return Err(self.malformed("it has no metadata", "check the mount and proxies"));
        };
        let number = metadata.current_version;
        let Some(version) = metadata.versions.get(&number.to_string()).cloned() else {
            return Err(self.not_found(&format!("it has no version {number}"), "write one"));
        };
        self.revision(&Version {
            version: number,
            ..version
        })
        .map(Some)
    }

    async fn read(&self) -> Result<Lease<Credentials>, ProviderError> {
        let path = self.secret.api_path("data");
        let (envelope, _) = match self
            .session
            .request::<Data>(false, || Call::get(path.clone()))
            .await
        {
            Ok(response) => response,
            Err(error) => return Err(self.explain(error, &path)),
        };
        let Some(Data { data, metadata }) = envelope.data else {
            return Err(self.malformed("it has no data", "check the mount and proxies"));
        };
        let revision = self.revision(&metadata)?;
        let data = data.unwrap_or_default();
        let text = |key: &str| match data.get(key) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            Some(_) => Err(self.malformed(
                &format!("its key \"{key}\" must be a string that is not empty"),
                "write one, or set another key",
            )),
            None => Err(self.malformed(
                &format!("its key \"{key}\" is missing"),
                "write it, or set another key",
            )),
        };
        let credentials = Credentials::new(text(&self.user_key)?, text(&self.password_key)?);
        Ok(Lease::new(credentials, revision).with_old_connections(self.old_connections))
    }

    /// Returns the revision of a version. It contains the creation time, because a secret that is
    /// removed and written again begins at version 1.
    ///
    /// # Errors
    /// `NotFound` for a deleted or destroyed version.
    fn revision(&self, version: &Version) -> Result<Revision, ProviderError> {
        let Version {
            version: number,
            created_time,
            deletion_time,
            destroyed,
        } = version;
        if *destroyed {
            return Err(self.not_found(
                &format!("its version {number} was destroyed"),
                "write another. The current lease stays in use",
            ));
        }
        // A time in the future is when the store will delete the version. The credentials stay
        // valid.
        if !deletion_time.is_empty() && is_past(deletion_time, self.session.now()) {
            return Err(self.not_found(
                &format!("its version {number} was deleted"),
                "undelete it or write another. The current lease stays in use",
            ));
        }
        Ok(Revision::new(format!(
            "{} {number} of {created_time}",
            self.secret
        )))
    }

    fn explain(&self, error: SessionError, path: &str) -> ProviderError {
        match error.call_error() {
            Some(CallError::Deleted(response)) => {
                let cause = response
                    .read::<Data>()
                    .ok()
                    .and_then(|envelope| self.revision(&envelope.data?.metadata).err());
                cause.unwrap_or_else(|| {
                    self.not_found("its current version is gone", "restore it, or write one")
                })
            }
            Some(failure) if failure.mentions(&["pgrading from non-versioned"]) => self.error(
                ProviderErrorKind::Unavailable,
                "the store is being upgraded",
                "nothing at first: the fetch is retried",
            ),
            Some(failure) if failure.is_without_namespace() => {
                error.explain(&self.session.place(path), "")
            }
            Some(failure) if failure.status() == Some(404) && self.secret.has_api_prefix() => {
                self.not_found("there is no such secret", API_PATH_ADVICE)
            }
            Some(failure)
                if failure.status() == Some(404)
                    && !failure.mentions(&["no handler for route"]) =>
            {
                self.not_found(
                    "there is no such secret",
                    "check mount and path, or write it. The mount must be a KV store of version 2",
                )
            }
            Some(failure) if failure.is_forbidden() && self.secret.has_api_prefix() => self.error(
                ProviderErrorKind::Denied,
                "not allowed",
                &format!("{API_PATH_ADVICE}, or grant `read` on {path}"),
            ),
            _ => error.explain(
                &self.session.place(path),
                &format!("grant `read` on {path}"),
            ),
        }
    }

    fn not_found(&self, problem: &str, action: &str) -> ProviderError {
        self.error(ProviderErrorKind::NotFound, problem, action)
    }

    fn malformed(&self, problem: &str, action: &str) -> ProviderError {
        self.error(ProviderErrorKind::Malformed, problem, action)
    }

    fn error(&self, kind: ProviderErrorKind, problem: &str, action: &str) -> ProviderError {
        let place = self.session.place(&format!("secret {}", self.secret));
        error_at(&place, kind, problem, action)
    }
}

/// Returns whether a deletion time has passed. An unreadable time counts as passed, because only
/// deleted versions have one.
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
        let Some(lease) = request.current else {
            return self.read().await.map(Fetched::New);
        };
        match self.current_revision().await? {
            Some(current) if current == *lease.revision() => Ok(Fetched::Unchanged),
            // A version that was written between the two requests is newer.
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
