//! The provider: chooses the version of the secret that is used.

use std::fmt;
use std::time::{Duration, Instant};

use aws_types::SdkConfig;
use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::lease::OldConnections;
use claviger::provider::{Clock, FetchRequest, Fetched};
use claviger::report::RotationTrigger;
use claviger::{Credentials, Lease, Provider, Revision};
use parking_lot::Mutex;

use crate::api::{Content, Description, SecretClient, Version};
use crate::builder::SecretsManagerBuilder;
use crate::fallback::{Fallback, StagingLabel};
use crate::format::{ContentError, Format};
use crate::schedule;

/// Time after which a denied DescribeSecret is called again. A later grant needs no restart, and
/// 720 calls a month cost 0.004 USD.
const DESCRIBE_RETRY_INTERVAL: Duration = Duration::from_secs(3_600);

/// Reads database credentials from AWS Secrets Manager.
///
/// A lease is a version of the secret. Its revision is the `VersionId`, and it has no expiry. The
/// provider returns `AWSCURRENT`. If the database rejects that, it returns the version at
/// `AWSPENDING`, then the one at `AWSPREVIOUS`. Each is verified by a login before it is used. So
/// the service stays available between a rotation's setSecret and finishSecret, and when a rotation
/// is rolled back.
///
/// [`builder`](Self::builder) takes settings: other keys, the endpoint, the rotation strategy.
///
/// Errors of a fetch; the message names the secret, its region and the staging label, and what to
/// do:
///
/// | kind | cause |
/// |---|---|
/// | `NotFound` | there is no such secret or no value at `AWSCURRENT`, or it is marked for deletion |
/// | `Denied` | `secretsmanager:GetSecretValue` or, on the secret's key, `kms:Decrypt` is not granted; or AWS rejects the credentials, or they may not assume a role |
/// | `Malformed` | the value is binary, or not in its format, or lacks a key; the key is named, never the value |
/// | `Misconfigured` | AWS rejects the request |
/// | `Throttled` | the SDK's retries were throttled, too |
/// | `TimedOut`, `Unavailable` | Secrets Manager, or the backend of the AWS credentials, cannot be reached or has an internal error, or the AWS session expired |
///
/// The first four end a registration at once. Later the current lease stays in use. No error has a
/// source, because the SDK's errors contain the whole response.
///
/// ```
/// use claviger_secrets_manager::SecretsManager;
///
/// # use claviger::error::ProviderError;
/// # fn provider(aws: &aws_types::SdkConfig) -> Result<SecretsManager, ProviderError> {
/// // let aws = aws_config::load_defaults(BehaviorVersion::latest()).await;
/// let provider = SecretsManager::new(aws, "prod/orders-db")?;
/// # Ok(provider)
/// # }
/// ```
pub struct SecretsManager {
    client: SecretClient,
    format: Format,
    old_connections: OldConnections,
    fallback: Mutex<Option<Fallback>>,
    /// Time of the last denied DescribeSecret.
    describe_denied: Mutex<Option<Instant>>,
}

impl SecretsManager {
    /// Reads a secret that is a JSON object with the keys `username` and `password`, as AWS lays
    /// out the secret of a database. Other keys are ignored. The pool's connect options name the
    /// endpoint; see
    /// [`with_endpoint_from_secret`](SecretsManagerBuilder::with_endpoint_from_secret).
    ///
    /// `aws` is loaded by `aws_config`, with its region, credentials, retries, endpoint and
    /// timeouts. Default timeouts are 3 s to connect, 5 s an attempt and 20 s for an operation
    /// with the SDK's retries. `secret_id` is the secret's name, its ARN, or its ARN without the
    /// six random characters at the end.
    ///
    /// # Errors
    /// As [`SecretsManagerBuilder::build`].
    pub fn new(aws: &SdkConfig, secret_id: impl Into<String>) -> Result<Self, ProviderError> {
        Self::builder(aws, secret_id).build()
    }

    /// Reads a secret that is the password alone, of this database user; see
    /// [`with_plain_password`](SecretsManagerBuilder::with_plain_password).
    ///
    /// # Errors
    /// As [`SecretsManagerBuilder::build`].
    pub fn password(
        aws: &SdkConfig,
        secret_id: impl Into<String>,
        user: impl Into<String>,
    ) -> Result<Self, ProviderError> {
        Self::builder(aws, secret_id)
            .with_plain_password(user)
            .build()
    }

    /// Returns a builder for the secret with this name or ARN.
    pub fn builder(aws: &SdkConfig, secret_id: impl Into<String>) -> SecretsManagerBuilder {
        SecretsManagerBuilder::new(aws, secret_id.into())
    }

    pub(crate) fn from_settings(
        client: SecretClient,
        format: Format,
        old_connections: OldConnections,
    ) -> Self {
        Self {
            client,
            format,
            old_connections,
            fallback: Mutex::default(),
            describe_denied: Mutex::default(),
        }
    }

    /// Returns the secret's description; `None` while DescribeSecret is not granted. A denied call
    /// is repeated once an hour.
    async fn describe(
        &self,
        clock: &Clock,
        briefly: bool,
    ) -> Result<Option<Description>, ProviderError> {
        let now = clock.now().mono();
        let denied = *self.describe_denied.lock();
        if denied
            .is_some_and(|since| now.saturating_duration_since(since) < DESCRIBE_RETRY_INTERVAL)
        {
            return Ok(None);
        }
        let description = self.client.describe(clock, briefly).await?;
        *self.describe_denied.lock() = description.is_none().then_some(now);
        if description.is_none() && denied.is_none() {
            tracing::info!(
                secret = %self.client.secret(),
                "secretsmanager:DescribeSecret is not granted; the secret is polled"
            );
        }
        Ok(description)
    }

    /// Returns whether the current lease, which is not rejected, is kept while this version is at
    /// `AWSCURRENT`.
    fn is_kept(
        &self,
        request: &FetchRequest<Credentials>,
        active: &Revision,
        current: &Revision,
    ) -> bool {
        let mut fallback = self.fallback.lock();
        // The rotation was finished. If AWSCURRENT is moved back later, that is intended.
        fallback.take_if(|fallback| fallback.rejected != *current);
        active == current
            || request.is_rejected(current)
            || fallback
                .as_ref()
                .is_some_and(|fallback| fallback.is_preferred(active, current))
    }

    /// Returns the credentials to use: those at `AWSCURRENT`, or of a lower candidate if the
    /// database rejects them. `active` is the current lease unless it is rejected.
    async fn choose(
        &self,
        request: &FetchRequest<Credentials>,
        active: Option<&Lease<Credentials>>,
    ) -> Result<(Credentials, Revision), ProviderError> {
        let clock = request.clock();
        let current = match self.client.value(clock, StagingLabel::Current).await {
            Ok(current) => current,
            // An abandoned rotation may leave a version without a value at this label.
            Err(error)
                if active.is_none()
                    && !request.rejected.is_empty()
                    && error.kind() == ProviderErrorKind::NotFound =>
            {
                return self
                    .lower_candidate(request)
                    .await?
                    .map(|(_, credentials, used)| (credentials, used))
                    .ok_or(error);
            }
            Err(error) => return Err(error),
        };
        let revision = current.revision.clone();
        if let Some(lease) =
            active.filter(|lease| self.is_kept(request, lease.revision(), &revision))
        {
            return Ok((lease.secret().clone(), lease.revision().clone()));
        }
        let first = self.read(StagingLabel::Current, current);
        if active.is_some() || !is_current_unusable(request, &revision, &first) {
            *self.fallback.lock() = None;
            return Ok((first?, revision));
        }
        if let Some((label, credentials, used)) = self.lower_candidate(request).await? {
            tracing::info!(
                secret = %self.client.secret(),
                staging_label = label.as_str(),
                revision = %used,
                "AWSCURRENT is rejected; another version is tried"
            );
            *self.fallback.lock() = Some(Fallback {
                rejected: revision,
                used: used.clone(),
            });
            return Ok((credentials, used));
        }
        // All candidates are rejected: AWSCURRENT is tried again.
        *self.fallback.lock() = None;
        Ok((first?, revision))
    }

    /// Returns the first usable version below `AWSCURRENT`, with its staging label.
    async fn lower_candidate(
        &self,
        request: &FetchRequest<Credentials>,
    ) -> Result<Option<(StagingLabel, Credentials, Revision)>, ProviderError> {
        for label in [StagingLabel::Pending, StagingLabel::Previous] {
            if let Some((credentials, used)) = self.candidate(request, label).await? {
                return Ok(Some((label, credentials, used)));
            }
        }
        Ok(None)
    }

    /// Returns the version at this label, unless it is rejected, missing or unusable.
    async fn candidate(
        &self,
        request: &FetchRequest<Credentials>,
        label: StagingLabel,
    ) -> Result<Option<(Credentials, Revision)>, ProviderError> {
        let version = match self.client.value(request.clock(), label).await {
            Ok(version) => version,
            // The fetch is retried. Skipping this candidate might choose the wrong one.
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => {
                tracing::debug!(
                    secret = %self.client.secret(),
                    staging_label = label.as_str(),
                    reason = %error,
                    "version of the secret cannot be used"
                );
                return Ok(None);
            }
        };
        let revision = version.revision.clone();
        if request.is_rejected(&revision) {
            return Ok(None);
        }
        match self.read(label, version) {
            Ok(credentials) => Ok(Some((credentials, revision))),
            Err(error) => {
                tracing::warn!(
                    secret = %self.client.secret(),
                    staging_label = label.as_str(),
                    reason = %error,
                    "version of the secret cannot be used"
                );
                Ok(None)
            }
        }
    }

    fn read(&self, label: StagingLabel, version: Version) -> Result<Credentials, ProviderError> {
        let credentials = match version.content {
            Content::Text(text) => self.format.read(&text),
            Content::Binary => Err(ContentError::new(
                "the secret is binary (SecretBinary); write it as text (SecretString)",
            )),
            Content::Missing => Err(ContentError::new("the version has no value; write one")),
        };
        credentials.map_err(|error| {
            error.into_provider_error(&format!(
                "secret {} in {}, {}",
                self.client.secret(),
                self.client.region(),
                label.as_str()
            ))
        })
    }

    /// Makes a lease without a refresh time, which an older lease may have.
    fn lease(&self, credentials: Credentials, revision: Revision) -> Lease<Credentials> {
        Lease::new(credentials, revision).with_old_connections(self.old_connections)
    }
}

impl Provider for SecretsManager {
    type Secret = Credentials;

    /// Makes one call for an unchanged secret: DescribeSecret, or GetSecretValue if that is not
    /// granted. A changed secret costs one call more. If the database rejects the current lease,
    /// each candidate costs one call, three at most.
    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        let active = request
            .current
            .as_ref()
            .filter(|lease| !request.is_rejected(lease.revision()));
        let mut described = None;
        if let Some(active) = active {
            described = self.describe(request.clock(), false).await?;
            let current = described
                .as_ref()
                .filter(|description| !description.deleted)
                .and_then(|description| description.current.as_ref());
            if current.is_some_and(|current| self.is_kept(&request, active.revision(), current)) {
                let lease = self.lease(active.secret().clone(), active.revision().clone());
                return Ok(with_schedule(lease, described, &request).into());
            }
        }
        let (credentials, revision) = self.choose(&request, active).await?;
        if described.is_none() && request.trigger != RotationTrigger::Rejected {
            // A lease is available. An error is reported by the next fetch.
            described = self
                .describe(request.clock(), true)
                .await
                .unwrap_or_default();
        }
        let lease = self.lease(credentials, revision);
        Ok(with_schedule(lease, described, &request).into())
    }

    /// Reads `AWSPENDING` if the secret has one, otherwise as [`fetch`](Self::fetch). No staging
    /// label is moved.
    async fn rehearse(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        let label = StagingLabel::Pending;
        let version = match self.client.value(request.clock(), label).await {
            Ok(version) => version,
            Err(error) if error.kind() == ProviderErrorKind::NotFound => {
                return self.fetch(request).await;
            }
            Err(error) => return Err(error),
        };
        let revision = version.revision.clone();
        let credentials = self.read(label, version)?;
        Ok(self.lease(credentials, revision).into())
    }
}

/// Returns whether lower candidates are considered: the database rejects `AWSCURRENT`, or rejects
/// some version and `AWSCURRENT` cannot be read.
fn is_current_unusable(
    request: &FetchRequest<Credentials>,
    current: &Revision,
    read: &Result<Credentials, ProviderError>,
) -> bool {
    request.is_rejected(current) || (read.is_err() && !request.rejected.is_empty())
}

/// Adds the time of the next fetch, once the next rotation is over.
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
            .field("old_connections", &self.old_connections)
            .finish_non_exhaustive()
    }
}
