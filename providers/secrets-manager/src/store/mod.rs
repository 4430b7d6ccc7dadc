//! What is asked of Secrets Manager: the value of a version, and when the secret is rotated next.

mod client;
mod failure;
mod redacted;
mod skew;

use std::time::{Duration, SystemTime};

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::timeout::TimeoutConfig;
use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecret;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValue;
use aws_types::SdkConfig;
use claviger::{ProviderError, Revision, quiet};

use crate::ladder::Stage;
use crate::secret_id::SecretId;
use failure::Asked;
use redacted::Redacted;

/// How long a description may take that is not needed yet: a service's start does not wait for it.
const BRIEFLY: Duration = Duration::from_secs(2);

/// One secret in Secrets Manager.
pub(crate) struct Store {
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

impl Store {
    /// # Errors
    /// `Misconfigured`, naming the setting that cannot be right.
    pub(crate) fn new(aws: &SdkConfig, secret: SecretId) -> Result<Self, ProviderError> {
        let region = secret.region(aws.region().map(AsRef::as_ref))?;
        let client = quiet::run(|| client::make(aws, &region))?;
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
    pub(crate) async fn value(&self, stage: Stage) -> Result<Version, ProviderError> {
        let request = self
            .client
            .get_secret_value()
            .secret_id(self.secret.as_str())
            .version_stage(stage.label());
        let request = request
            .customize()
            .interceptor(Redacted::new(&GetSecretValue::new()));
        let answer = quiet::during(request.send())
            .await
            .map_err(|error| self.failed(Asked::Value(stage), &error))?;
        let Some(revision) = answer.version_id.map(Revision::new) else {
            return Err(failure::no_answer(&self.asked(Asked::Value(stage))));
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
            let time = TimeoutConfig::builder().operation_timeout(BRIEFLY).build();
            request = request
                .config_override(aws_sdk_secretsmanager::Config::builder().timeout_config(time));
        }
        let answer = match quiet::during(request.send()).await {
            Ok(answer) => answer,
            Err(error) if failure::is_not_granted(&error) => return Ok(None),
            Err(error) => return Err(self.failed(Asked::Description, &error)),
        };
        let is_current =
            |stages: &Vec<String>| stages.iter().any(|stage| stage == Stage::Current.label());
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

    fn failed<E: failure::Told>(&self, asked: Asked, error: &failure::Failure<E>) -> ProviderError {
        failure::explain(asked, &self.asked(asked), self.secret.as_str(), error)
    }

    /// What was asked for, in words.
    fn asked(&self, asked: Asked) -> String {
        match asked {
            Asked::Value(stage) => format!(
                "secret {} in {}, {}",
                self.secret,
                self.region,
                stage.label()
            ),
            Asked::Description => format!("secret {} in {}", self.secret, self.region),
        }
    }
}
