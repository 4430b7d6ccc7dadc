//! Calls of Secrets Manager: the value of a version, and the secret's description.

mod client;
mod error;
mod redacted;
mod skew;

use std::time::{Duration, SystemTime};

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::timeout::TimeoutConfig;
use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecret;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValue;
use aws_types::SdkConfig;
use claviger::error::ProviderError;
use claviger::provider::Clock;
use claviger::{Revision, quiet};

use crate::fallback::StagingLabel;
use crate::secret_id::SecretId;
use error::Operation;
use redacted::Redacted;

/// Timeout for a description that is not needed yet. A service's start does not wait longer.
const BRIEF_TIMEOUT: Duration = Duration::from_secs(2);

/// Client for one secret in Secrets Manager.
pub(crate) struct SecretClient {
    client: Client,
    secret: SecretId,
    region: String,
}

/// A version of the secret. Without `Debug`, because it contains the secret.
pub(crate) struct Version {
    pub(crate) revision: Revision,
    pub(crate) content: Content,
}

pub(crate) enum Content {
    Text(String),
    Binary,
    Missing,
}

/// Description of a secret, without its value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Description {
    /// Version at `AWSCURRENT`.
    pub(crate) current: Option<Revision>,
    /// Latest time of the next rotation.
    pub(crate) next_rotation: Option<SystemTime>,
    /// Whether the secret is marked for deletion; it has no value then.
    pub(crate) deleted: bool,
}

impl SecretClient {
    /// Makes the client. Sends no request.
    ///
    /// # Errors
    /// `Misconfigured`, naming the invalid setting.
    pub(crate) fn new(aws: &SdkConfig, secret: SecretId) -> Result<Self, ProviderError> {
        let region = secret.region(aws.region().map(AsRef::as_ref))?;
        let client = quiet::call_quietly(|| client::build_client(aws, &region))?;
        Ok(Self {
            client,
            secret,
            region,
        })
    }

    pub(crate) fn secret(&self) -> &SecretId {
        &self.secret
    }

    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// Returns the version at this staging label.
    pub(crate) async fn value(
        &self,
        clock: &Clock,
        label: StagingLabel,
    ) -> Result<Version, ProviderError> {
        let request = self
            .client
            .get_secret_value()
            .secret_id(self.secret.as_str())
            .version_stage(label.as_str());
        let request = request
            .customize()
            .interceptor(Redacted::new(&GetSecretValue::new()));
        let response = quiet::await_quietly(request.send())
            .await
            .map_err(|error| self.explain(clock, Operation::Value(label), &error))?;
        let Some(revision) = response.version_id.map(Revision::new) else {
            return Err(error::incomplete_response(
                &self.place(Operation::Value(label)),
            ));
        };
        let content = match (response.secret_string, response.secret_binary) {
            (Some(text), _) => Content::Text(text),
            (None, Some(_)) => Content::Binary,
            (None, None) => Content::Missing,
        };
        Ok(Version { revision, content })
    }

    /// Returns the description; `None` if that is not granted. With `briefly` set, the timeout is
    /// 2 s.
    pub(crate) async fn describe(
        &self,
        clock: &Clock,
        briefly: bool,
    ) -> Result<Option<Description>, ProviderError> {
        let request = self
            .client
            .describe_secret()
            .secret_id(self.secret.as_str());
        let mut request = request
            .customize()
            .interceptor(Redacted::new(&DescribeSecret::new()));
        if briefly {
            let time = TimeoutConfig::builder()
                .operation_timeout(BRIEF_TIMEOUT)
                .build();
            request = request
                .config_override(aws_sdk_secretsmanager::Config::builder().timeout_config(time));
        }
        let response = match quiet::await_quietly(request.send()).await {
            Ok(response) => response,
            Err(error) if error::is_not_granted(&error) => return Ok(None),
            Err(error) => return Err(self.explain(clock, Operation::Description, &error)),
        };
        let is_current = |labels: &Vec<String>| {
            labels
                .iter()
                .any(|label| label == StagingLabel::Current.as_str())
        };
        let current = response
            .version_ids_to_stages
            .iter()
            .flatten()
            .find(|(_, labels)| is_current(labels));
        Ok(Some(Description {
            current: current.map(|(version, _)| Revision::new(version.as_str())),
            next_rotation: response
                .next_rotation_date
                .and_then(|date| SystemTime::try_from(date).ok()),
            deleted: response.deleted_date.is_some(),
        }))
    }

    fn explain<E: error::OperationError>(
        &self,
        clock: &Clock,
        operation: Operation,
        error: &error::CallError<E>,
    ) -> ProviderError {
        error::explain(
            operation,
            &self.place(operation),
            self.secret.as_str(),
            &self.region,
            error,
            clock.now().wall(),
        )
    }

    /// Names the secret and the operation, for messages.
    fn place(&self, operation: Operation) -> String {
        match operation {
            Operation::Value(label) => format!(
                "secret {} in {}, {}",
                self.secret,
                self.region,
                label.as_str()
            ),
            Operation::Description => format!("secret {} in {}", self.secret, self.region),
        }
    }
}
