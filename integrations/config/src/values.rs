//! Types of values in a configuration file: durations and secrets.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::de::{Deserialize, Deserializer, Error as _};

/// Prefix of a reference to a file.
pub(crate) const FILE: &str = "file:";

/// Keyword of secrets in the JSON schema.
pub(crate) const IS_SECRET: &str = "x-secret";

/// A duration such as `14m` or `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HumanDuration(pub(crate) Duration);

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The message does not contain the text, because it may be a secret under the wrong key.
        let duration = humantime::parse_duration(&text).map_err(|_| {
            D::Error::custom("is not a duration; give one such as \"14m\" or \"30s\"")
        })?;
        Ok(Self(duration))
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A duration such as `30s`, `14m` or `1h 30m`.",
            "examples": ["30s", "14m"],
        })
    }
}

/// A password or token.
#[derive(Clone)]
pub(crate) enum Secret {
    /// Text of the secret.
    Text(SecretString),
    /// Path of the file that contains the secret.
    File(PathBuf),
}

impl Secret {
    /// Returns the secret in clear. A file is read now, without trailing line ends.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(&self) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text.expose_secret().to_owned()),
            Self::File(path) => read_reference(path),
        }
    }
}

/// Reads a referenced file without trailing line ends.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read_reference(path: &std::path::Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some(path) = text.strip_prefix(FILE) {
            return Ok(Self::File(path.into()));
        }
        if text.is_empty() {
            return Err(D::Error::custom("is empty; give ${NAME} or file:/path"));
        }
        Ok(Self::Text(text.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("[redacted]"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A secret: `${NAME}` of the environment, or `file:/path`.",
            "examples": ["${ORDERS_PASSWORD}", "file:/etc/orders/password"],
            (IS_SECRET): true,
        })
    }
}
