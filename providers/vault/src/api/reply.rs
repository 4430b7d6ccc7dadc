//! What the server answers, as far as it is read. Nothing here has `Debug`: there are secrets in it.

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

/// What every answer is wrapped in.
#[derive(Deserialize)]
pub(crate) struct Envelope<T> {
    #[serde(default)]
    pub(crate) lease_id: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    pub(crate) renewable: bool,
    pub(crate) data: Option<T>,
    pub(crate) auth: Option<LogIn>,
}

impl<T> Envelope<T> {
    pub(crate) fn life(&self) -> Duration {
        Duration::from_secs(self.lease_duration)
    }
}

/// What a log-in, or the renewal of a token, answers.
#[derive(Deserialize)]
pub(crate) struct LogIn {
    pub(crate) client_token: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
    #[serde(default)]
    token_type: String,
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// `None` when it does not die.
    pub(crate) life: Option<Duration>,
    pub(crate) renewable: bool,
    /// A batch token, which cannot be renewed or revoked.
    pub(crate) batch: bool,
}

impl LogIn {
    pub(crate) fn grant(&self) -> Grant {
        grant(self.lease_duration, self.renewable, &self.token_type)
    }

    pub(crate) fn into_token(self) -> SecretString {
        SecretString::from(self.client_token)
    }
}

/// What a look at a token answers.
#[derive(Deserialize)]
pub(crate) struct TokenLook {
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    renewable: bool,
    #[serde(default, rename = "type")]
    kind: String,
}

impl TokenLook {
    pub(crate) fn grant(&self) -> Grant {
        grant(self.ttl, self.renewable, &self.kind)
    }
}

fn grant(seconds: u64, renewable: bool, kind: &str) -> Grant {
    // A token without an end has a life of zero; one that has ended is not answered for.
    Grant { life: (seconds > 0).then(|| Duration::from_secs(seconds)), renewable, batch: kind == "batch" }
}
