//! The provider: its settings, and how it answers.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_types::SdkConfig;
use claviger::{
    Credentials, FetchRequest, Fetched, Lease, OldConnections, Provider, ProviderError,
    ProviderErrorKind, Revision, RotationTrigger,
};

use crate::api::{Content, Description, SecretClient, Version};
use crate::fallback::{Fallback, StagingLabel};
use crate::format::{ContentError, Format, Keys};
use crate::schedule;
use crate::secret_id::{SecretId, misconfigured};

/// How long a DescribeSecret that was denied is not asked for again: whoever grants it later needs
/// no restart, and 720 calls a month cost 0.004 USD.
const DESCRIBE_RETRY_INTERVAL: Duration = Duration::from_secs(3_600);

/// A database login in AWS Secrets Manager.
///
/// A lease is a version of the secret; its revision is the `VersionId`, and it has no death. What
/// is served is `AWSCURRENT`; where the database rejects that, the version at `AWSPENDING`, then
/// the one at `AWSPREVIOUS`, each verified by a login before it serves: between a rotation's
/// setSecret and finishSecret the service goes on, and so it does when a rotation is rolled back.
///
/// What each kind of error means; the message names the secret, its region and the stage, and says
/// what to do:
///
/// | kind | what happened |
/// |---|---|
/// | `NotFound` | there is no such secret or no value at `AWSCURRENT`; or it is marked for deletion |
/// | `Denied` | `secretsmanager:GetSecretValue` or, on the secret's key, `kms:Decrypt` is not granted; or AWS does not know the credentials, or denies their chain to assume a role |
/// | `Malformed` | the value is binary, or not in its shape, or lacks a key: the key is named, the value never |
/// | `Misconfigured` | a setting cannot be right |
/// | `Throttled` | the SDK's own retries were throttled, too |
/// | `TimedOut`, `Unavailable` | Secrets Manager, or what issues the AWS credentials, cannot be reached, has a fault, or let the connection expire |
///
/// The first four end a registration at once; later the held lease goes on serving. No error has a
/// source: the SDK's errors hold the whole answer.
///
/// ```
/// use claviger_secrets_manager::SecretsManager;
///
/// # fn provider(aws: &aws_types::SdkConfig) -> Result<SecretsManager, claviger::ProviderError> {
/// // let aws = aws_config::load_defaults(BehaviorVersion::latest()).await;
/// let provider = SecretsManager::new(aws, "prod/orders-db")?;
/// # Ok(provider)
/// # }
/// ```
pub struct SecretsManager {
    client: SecretClient,
    format: Format,
    alternating: bool,
    old_connections: Option<OldConnections>,
    /// The first setting that cannot be right.
    fault: Option<ProviderError>,
    fallback: Mutex<Option<Fallback>>,
    /// When DescribeSecret was denied last.
    denied: Mutex<Option<Instant>>,
}

impl SecretsManager {
    /// A secret that is a JSON object with the keys `username` and `password`, as AWS lays out the
    /// secret of a database. Other keys, `masterarn` among them, are not looked at. Where the
    /// database is, the pool's own options say; see
    /// [`endpoint_from_secret`](Self::endpoint_from_secret).
    ///
    /// `aws` comes from `aws_config`: region, credentials, retries, endpoint and time-outs are its
    /// own. Where it sets no time-outs they are 3 s to connect, 5 s an attempt and 20 s for an
    /// operation with the SDK's retries. `secret_id` is the secret's name, its ARN, or its ARN
    /// without the six random characters at the end.
    ///
    /// # Errors
    /// `Misconfigured`, naming the setting: a `secret_id` that is no name and no secret's ARN; no
    /// region in the configuration or the ARN, or two that differ; no credentials provider; an
    /// endpoint that is no URL.
    pub fn new(aws: &SdkConfig, secret_id: impl Into<String>) -> Result<Self, ProviderError> {
        Self::shaped(aws, secret_id.into(), Format::Json(Keys::default()))
    }

    /// A secret that is the password alone, byte for byte, of the user given here. A byte order
    /// mark at its beginning is left out.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when the user is empty or has a NUL.
    pub fn password(
        aws: &SdkConfig,
        secret_id: impl Into<String>,
        user: impl Into<String>,
    ) -> Result<Self, ProviderError> {
        let user = user.into();
        check("user", &user)?;
        Self::shaped(aws, secret_id.into(), Format::Password { user })
    }

    fn shaped(aws: &SdkConfig, secret_id: String, format: Format) -> Result<Self, ProviderError> {
        Ok(Self {
            client: SecretClient::new(aws, SecretId::parse(secret_id)?)?,
            format,
            alternating: false,
            old_connections: None,
            fault: None,
            fallback: Mutex::default(),
            denied: Mutex::default(),
        })
    }

    /// The key that holds the user, instead of `username`. An empty key is `Misconfigured` on the
    /// first fetch, as is any for a lone password; so with all keys.
    #[must_use]
    pub fn user_key(self, key: impl Into<String>) -> Self {
        self.key("user_key", key.into(), |keys| &mut keys.user)
    }

    /// The key that holds the password, instead of `password`.
    #[must_use]
    pub fn password_key(self, key: impl Into<String>) -> Self {
        self.key("password_key", key.into(), |keys| &mut keys.password)
    }

    /// The key that holds the host, instead of `host`. Looked at with
    /// [`endpoint_from_secret`](Self::endpoint_from_secret) alone, as are the next two.
    #[must_use]
    pub fn host_key(self, key: impl Into<String>) -> Self {
        self.key("host_key", key.into(), |keys| &mut keys.host)
    }

    /// The key that holds the port, instead of `port`.
    #[must_use]
    pub fn port_key(self, key: impl Into<String>) -> Self {
        self.key("port_key", key.into(), |keys| &mut keys.port)
    }

    /// The key that holds the database's name, instead of `dbname`.
    #[must_use]
    pub fn database_key(self, key: impl Into<String>) -> Self {
        self.key("database_key", key.into(), |keys| &mut keys.database)
    }

    /// Takes host, port and database from the secret, before the pool's own options; a change of
    /// them replaces the pool. The port is a number or a string of one, by default that of the
    /// `engine`: 5432 for `postgres`, 3306 for `mysql` and `mariadb`. Where the secret names no
    /// database, the pool's own options do. Default: the pool's own options name all three.
    ///
    /// `Misconfigured` on the first fetch for a lone password.
    #[must_use]
    pub fn endpoint_from_secret(mut self) -> Self {
        match &mut self.format {
            Format::Json(keys) => keys.endpoint = true,
            Format::Password { .. } => {
                let problem = "means nothing for a lone password; leave it out";
                self.fault = self
                    .fault
                    .or_else(|| Some(misconfigured("endpoint_from_secret", problem)));
            }
        }
        self
    }

    /// The secret is rotated between two users in turn: what it held before stays valid for one
    /// more rotation. Open connections are kept then ([`OldConnections::Keep`]), and go when the
    /// pool's `max_lifetime` says: until then connections of both users are in the pool. Default:
    /// one user, whose connections are drained ([`OldConnections::Drain`]).
    #[must_use]
    pub fn alternating_users(mut self) -> Self {
        self.alternating = true;
        self
    }

    /// What becomes of open connections once another version is served, whatever the strategy.
    #[must_use]
    pub fn with_old_connections(mut self, old_connections: OldConnections) -> Self {
        self.old_connections = Some(old_connections);
        self
    }

    fn key(
        mut self,
        argument: &str,
        key: String,
        which: impl FnOnce(&mut Keys) -> &mut String,
    ) -> Self {
        let checked = check(argument, &key);
        let checked = match &mut self.format {
            Format::Json(keys) => {
                *which(keys) = key;
                checked
            }
            Format::Password { .. } => Err(misconfigured(
                argument,
                "means nothing for a lone password; leave it out",
            )),
        };
        self.fault = self.fault.or(checked.err());
        self
    }

    /// The secret's description; `None` when it may not be asked for, which is tried again each
    /// hour.
    async fn describe(
        &self,
        now: Instant,
        briefly: bool,
    ) -> Result<Option<Description>, ProviderError> {
        let denied = *lock(&self.denied);
        if denied
            .is_some_and(|since| now.saturating_duration_since(since) < DESCRIBE_RETRY_INTERVAL)
        {
            return Ok(None);
        }
        let description = self.client.describe(briefly).await?;
        *lock(&self.denied) = description.is_none().then_some(now);
        if description.is_none() && denied.is_none() {
            tracing::info!(secret = %self.client.secret(), "secretsmanager:DescribeSecret is not granted; the secret is looked at by the supervisor's poll");
        }
        Ok(description)
    }

    /// Whether what is held, which works, is not to be given up for this version at `AWSCURRENT`.
    fn is_kept(
        &self,
        request: &FetchRequest<Credentials>,
        held: &Revision,
        current: &Revision,
    ) -> bool {
        let mut fallback = self.fallback();
        // The rotation was finished: should AWSCURRENT be moved back one day, that is meant.
        fallback.take_if(|fallback| fallback.rejected != *current);
        held == current
            || request.is_rejected(current)
            || fallback
                .as_ref()
                .is_some_and(|fallback| fallback.is_preferred(held, current))
    }

    /// The login to use, from `AWSCURRENT`, or from further down where the database rejects that.
    /// `held` is what is held and works.
    async fn choose(
        &self,
        request: &FetchRequest<Credentials>,
        held: Option<&Lease<Credentials>>,
    ) -> Result<(Credentials, Revision), ProviderError> {
        let current = match self.client.value(StagingLabel::Current).await {
            Ok(current) => current,
            // A rotation that was begun and given up may leave a version without a value there.
            Err(error)
                if held.is_none()
                    && !request.rejected.is_empty()
                    && error.kind() == ProviderErrorKind::NotFound =>
            {
                return self
                    .lower_candidate(request)
                    .await?
                    .map(|(_, login, taken)| (login, taken))
                    .ok_or(error);
            }
            Err(error) => return Err(error),
        };
        let revision = current.revision.clone();
        if let Some(held) = held.filter(|held| self.is_kept(request, held.revision(), &revision)) {
            return Ok((held.secret().clone(), held.revision().clone()));
        }
        let first = self.read(StagingLabel::Current, current);
        if held.is_some() || !self.is_current_unusable(request, &revision, &first) {
            *self.fallback() = None;
            return Ok((first?, revision));
        }
        if let Some((stage, login, taken)) = self.lower_candidate(request).await? {
            tracing::info!(secret = %self.client.secret(), stage = stage.as_str(), revision = %taken, "AWSCURRENT is rejected; another version is tried");
            *self.fallback() = Some(Fallback {
                rejected: revision,
                taken: taken.clone(),
            });
            return Ok((login, taken));
        }
        // All candidates are rejected: the first choice again.
        *self.fallback() = None;
        Ok((first?, revision))
    }

    /// The first version below `AWSCURRENT` that may serve, and its stage.
    async fn lower_candidate(
        &self,
        request: &FetchRequest<Credentials>,
    ) -> Result<Option<(StagingLabel, Credentials, Revision)>, ProviderError> {
        for stage in [StagingLabel::Pending, StagingLabel::Previous] {
            if let Some((login, taken)) = self.candidate(request, stage).await? {
                return Ok(Some((stage, login, taken)));
            }
        }
        Ok(None)
    }

    /// Whether it is worth looking further down: the database rejects `AWSCURRENT`, or rejects
    /// something and `AWSCURRENT` cannot be read.
    fn is_current_unusable(
        &self,
        request: &FetchRequest<Credentials>,
        current: &Revision,
        read: &Result<Credentials, ProviderError>,
    ) -> bool {
        request.is_rejected(current) || (read.is_err() && !request.rejected.is_empty())
    }

    /// The version at a stage below `AWSCURRENT`, unless it is rejected, missing or unusable.
    async fn candidate(
        &self,
        request: &FetchRequest<Credentials>,
        stage: StagingLabel,
    ) -> Result<Option<(Credentials, Revision)>, ProviderError> {
        let version = match self.client.value(stage).await {
            Ok(version) => version,
            // It is asked again; a lower step taken for want of this one might be the wrong one.
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                tracing::debug!(secret = %self.client.secret(), stage = stage.as_str(), reason = %error, "no candidate");
                return Ok(None);
            }
        };
        let revision = version.revision.clone();
        if request.is_rejected(&revision) {
            return Ok(None);
        }
        match self.read(stage, version) {
            Ok(login) => Ok(Some((login, revision))),
            Err(error) => {
                tracing::warn!(secret = %self.client.secret(), stage = stage.as_str(), reason = %error, "no candidate");
                Ok(None)
            }
        }
    }

    fn read(&self, stage: StagingLabel, version: Version) -> Result<Credentials, ProviderError> {
        let login = match version.content {
            Content::Text(text) => self.format.read(&text),
            Content::Binary => Err(ContentError::new(
                "the secret is binary (SecretBinary); write it as text (SecretString)",
            )),
            Content::Nothing => Err(ContentError::new("the version has no value; write one")),
        };
        login.map_err(|error| {
            error.into_error(&format!(
                "secret {} in {}, {}",
                self.client.secret(),
                self.client.region(),
                stage.as_str()
            ))
        })
    }

    /// Without the hint of when to look again that an older one may have.
    fn lease(&self, login: Credentials, revision: Revision) -> Lease<Credentials> {
        let old_connections = self.old_connections.unwrap_or(if self.alternating {
            OldConnections::Keep
        } else {
            OldConnections::Drain
        });
        Lease::new(login, revision).with_old_connections(old_connections)
    }

    fn fallback(&self) -> MutexGuard<'_, Option<Fallback>> {
        lock(&self.fallback)
    }
}

impl Provider for SecretsManager {
    type Secret = Credentials;

    /// A look at what works costs one call: DescribeSecret, or GetSecretValue where that is not
    /// granted. A changed secret costs one more. When the database rejects what is held, each
    /// candidate is a call, three at most.
    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let held = request
            .held
            .as_ref()
            .filter(|held| !request.is_rejected(held.revision()));
        let mut described = None;
        if let Some(held) = held {
            described = self.describe(request.started.mono(), false).await?;
            let current = described
                .as_ref()
                .filter(|description| !description.deleted)
                .and_then(|description| description.current.as_ref());
            if current.is_some_and(|current| self.is_kept(&request, held.revision(), current)) {
                let lease = self.lease(held.secret().clone(), held.revision().clone());
                return Ok(with_schedule(lease, described, &request).into());
            }
        }
        let (login, revision) = self.choose(&request, held).await?;
        if described.is_none() && request.trigger != RotationTrigger::Rejected {
            // There is a lease: what cannot be known now is known at the next look.
            described = self
                .describe(request.started.mono(), true)
                .await
                .unwrap_or_default();
        }
        Ok(with_schedule(self.lease(login, revision), described, &request).into())
    }
}

/// The lease, looked at again once the next rotation is over.
fn with_schedule(
    lease: Lease<Credentials>,
    described: Option<Description>,
    request: &FetchRequest<Credentials>,
) -> Lease<Credentials> {
    match schedule::refresh_after(
        described.and_then(|description| description.next_rotation),
        request.started.wall(),
        fastrand::f64(),
    ) {
        Some(after) => lease.with_refresh_after(after),
        None => lease,
    }
}

impl fmt::Debug for SecretsManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretsManager")
            .field("secret", self.client.secret())
            .field("region", &self.client.region())
            .field("format", &self.format)
            .field("alternating", &self.alternating)
            .field("old_connections", &self.old_connections)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check(argument: &str, text: &str) -> Result<(), ProviderError> {
    if text.is_empty() {
        return Err(misconfigured(argument, "is empty"));
    }
    if text.contains('\0') {
        return Err(misconfigured(argument, "has a NUL character"));
    }
    Ok(())
}
