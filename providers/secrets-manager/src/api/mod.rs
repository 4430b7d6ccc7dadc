//! What is asked of Secrets Manager: the value of a version, and when the secret is rotated next.

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
use claviger::{ProviderError, Revision, quiet};

use crate::fallback::StagingLabel;
use crate::secret_id::SecretId;
use error::Operation;
use redacted::Redacted;

/// How long a description may take that is not needed yet: a service's start does not wait for it.
const BRIEF_TIMEOUT: Duration = Duration::from_secs(2);

/// One secret in Secrets Manager.
pub(crate) struct SecretClient {
    client: Client,
    secret: SecretId,
    region: String,
}

/// A version's name and content. Without `Debug`: it carries the secret.
pub(crate) struct Version {
    pub(crate) revision: Revision,
    pub(crate) content: Content,
}

pub(crate) enum Content {
    Text(String),
    Binary,
    Nothing,
}

/// What may be known of a secret without its value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Description {
    /// The version at `AWSCURRENT`.
    pub(crate) current: Option<Revision>,
    /// On or before when it is rotated next.
    pub(crate) next_rotation: Option<SystemTime>,
    /// It is marked for deletion: its value cannot be had.
    pub(crate) deleted: bool,
}

impl SecretClient {
    /// # Errors
    /// `Misconfigured`, naming the setting that cannot be right.
    pub(crate) fn new(aws: &SdkConfig, secret: SecretId) -> Result<Self, ProviderError> {
        let region = secret.region(aws.region().map(AsRef::as_ref))?;
        let client = quiet::run(|| client::build_client(aws, &region))?;
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

    /// The version at this stage.
    pub(crate) async fn value(&self, stage: StagingLabel) -> Result<Version, ProviderError> {
        let request = self
            .client
            .get_secret_value()
            .secret_id(self.secret.as_str())
            .version_stage(stage.as_str());
        let request = request
            .customize()
            .interceptor(Redacted::new(&GetSecretValue::new()));
        let answer = quiet::during(request.send())
            .await
            .map_err(|error| self.failed(Operation::Value(stage), &error))?;
        let Some(revision) = answer.version_id.map(Revision::new) else {
            return Err(error::incomplete_response(
                &self.place(Operation::Value(stage)),
            ));
        };
        let content = match (answer.secret_string, answer.secret_binary) {
            (Some(text), _) => Content::Text(text),
            (None, Some(_)) => Content::Binary,
            (None, None) => Content::Nothing,
        };
        Ok(Version { revision, content })
    }

    /// What may be known without the value; `None` when that is not granted. `briefly` waits 2 s at
    /// most, for what can be known later.
    pub(crate) async fn describe(
        &self,
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
        let answer = match quiet::during(request.send()).await {
            Ok(answer) => answer,
            Err(error) if error::is_not_granted(&error) => return Ok(None),
            Err(error) => return Err(self.failed(Operation::Description, &error)),
        };
        let is_current = |stages: &Vec<String>| {
            stages
                .iter()
                .any(|stage| stage == StagingLabel::Current.as_str())
        };
        let current = answer
            .version_ids_to_stages
            .iter()
            .flatten()
            .find(|(_, stages)| is_current(stages));
        Ok(Some(Description {
            current: current.map(|(version, _)| Revision::new(version.as_str())),
            next_rotation: answer
                .next_rotation_date
                .and_then(|date| SystemTime::try_from(date).ok()),
            deleted: answer.deleted_date.is_some(),
        }))
    }

    fn failed<E: error::OperationError>(
        &self,
        operation: Operation,
        error: &error::CallError<E>,
    ) -> ProviderError {
        error::explain(
            operation,
            &self.place(operation),
            self.secret.as_str(),
            error,
        )
    }

    /// What was asked for, in words.
    fn place(&self, operation: Operation) -> String {
        match operation {
            Operation::Value(stage) => format!(
                "secret {} in {}, {}",
                self.secret,
                self.region,
                stage.as_str()
            ),
            Operation::Description => format!("secret {} in {}", self.secret, self.region),
        }
    }
}
