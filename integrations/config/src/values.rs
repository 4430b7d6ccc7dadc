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

/// Prefix of a secret that is no reference to a file, after references are resolved.
pub(crate) const TEXT: &str = "text:";

/// Keyword of durations in the JSON schema.
pub(crate) const IS_DURATION: &str = "x-duration";

/// Keyword of secrets in the JSON schema.
pub(crate) const IS_SECRET: &str = "x-secret";

/// A duration such as `14m` or `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HumanDuration(pub(crate) Duration);

/// Units of a duration. Months (`M`) and years are none: `14M` is a misspelt `14m`.
const UNITS: [&str; 22] = [
    "msec", "ms", "seconds", "second", "secs", "sec", "s", "minutes", "minute", "mins", "min", "m",
    "hours", "hour", "hrs", "hr", "h", "days", "day", "d", "weeks", "w",
];

impl HumanDuration {
    /// # Errors
    /// Why the text is no duration. The message does not contain the text, because it may be a
    /// secret under the wrong key.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let is_letter = |one: char| one.is_alphabetic();
        let mut units = text
            .split(|one| !is_letter(one))
            .filter(|unit| !unit.is_empty());
        if text.trim().starts_with('-') {
            return Err("is negative; give a duration such as \"14m\"");
        }
        if !text.contains(is_letter) && text.contains(|one: char| one.is_ascii_digit()) {
            return Err("has no unit; give one such as \"14m\" or \"30s\"");
        }
        if text.contains('M') {
            return Err("has a unit in capitals; `m` is minutes, as in \"14m\"");
        }
        if !units.all(|unit| UNITS.contains(&unit)) {
            return Err("has an unknown unit; give ms, s, m, h or d, as in \"14m\"");
        }
        match humantime::parse_duration(text) {
            Ok(duration) => Ok(Self(duration)),
            Err(_) => Err("is not a duration; give one such as \"14m\" or \"30s\""),
        }
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let unit = UNITS.join("|");
        json_schema!({
            "type": "string",
            "pattern": format!(r"^(\s*\d+(\.\d+)?\s*({unit})\s*)+$|^file:|\$\{{"),
            "description": "A duration such as `30s`, `14m` or `1h 30m`.",
            "examples": ["30s", "14m"],
            (IS_DURATION): true,
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
    /// The file cannot be read, or is empty.
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
/// The file cannot be read, or is empty.
pub(crate) fn read_reference(path: &std::path::Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(empty_file(path)),
        text => Ok(text.to_owned()),
    }
}

/// Returns the problem of an empty file.
pub(crate) fn empty_file(path: &std::path::Path) -> String {
    format!("{} is empty; check what writes it", path.display())
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some(path) = text.strip_prefix(FILE) {
            return Ok(Self::File(path.into()));
        }
        let text = text.strip_prefix(TEXT);
        let text = text.ok_or_else(|| D::Error::custom("is not resolved"))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_that_is_not_misread() {
        for (text, seconds) in [
            ("14m", 840),
            ("14 m", 840),
            ("14min", 840),
            ("1h 30m", 5_400),
            ("1h30m", 5_400),
            ("0.5h", 1_800),
            ("2 days", 172_800),
        ] {
            let duration = HumanDuration::parse(text);
            assert_eq!(
                duration,
                Ok(HumanDuration(Duration::from_secs(seconds))),
                "{text}"
            );
        }
        for (text, word) in [
            ("14M", "capitals"),
            ("14 Minutes", "capitals"),
            ("14", "no unit"),
            ("-14m", "negative"),
            ("14 months", "unknown unit"),
            ("14mm", "unknown unit"),
            ("1y", "unknown unit"),
            ("m", "not a duration"),
            ("14m30", "not a duration"),
            ("14,5m", "not a duration"),
        ] {
            let error = HumanDuration::parse(text).err().unwrap_or_default();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
