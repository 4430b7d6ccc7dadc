//! Reads the file and the environment into one tree of values.

use std::collections::HashMap;
use std::path::Path;

use config::{Config as Sources, ConfigError as SourceError, Environment, File, FileFormat};
use serde_json::Value;

use crate::error::ConfigError;

/// Prefix of environment variables that override the file, such as `CLAVIGER_POOLS__ORDERS__PORT`.
const PREFIX: &str = "CLAVIGER";
/// Separator of keys in the name of a variable.
const KEY_SEPARATOR: &str = "__";

/// Environment variables by name.
pub(crate) type Variables = HashMap<String, String>;

/// Returns the environment variables that are valid Unicode.
pub(crate) fn environment() -> Variables {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads a TOML or YAML file. Variables override its values.
///
/// # Errors
/// The file cannot be read, or is invalid. The message contains no part of the file.
pub(crate) fn read_file(path: &Path, variables: &Variables) -> Result<Value, ConfigError> {
    let origin = path.display().to_string();
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => FileFormat::Toml,
        Some("yaml" | "yml") => FileFormat::Yaml,
        _ => {
            let message = "has no known extension; give a .toml, .yaml or .yml file";
            return Err(ConfigError::one(&origin, "", message));
        }
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::one(&origin, "", format!("cannot be read: {error}")))?;
    read_text(&origin, &text, format, variables)
}

/// Reads the text of a file. Variables override its values.
///
/// # Errors
/// As [`read_file`].
pub(crate) fn read_text(
    origin: &str,
    text: &str,
    format: FileFormat,
    variables: &Variables,
) -> Result<Value, ConfigError> {
    let overrides: Variables = variables
        .iter()
        .filter(|(name, _)| name.starts_with(&format!("{PREFIX}_")))
        // `${` in an environment variable is not a reference.
        .map(|(name, value)| (name.clone(), without_references(value)))
        .collect();
    let overrides = Environment::with_prefix(PREFIX)
        .prefix_separator("_")
        .separator(KEY_SEPARATOR)
        .source(Some(overrides));
    Sources::builder()
        .add_source(File::from_str(text, format))
        .add_source(overrides)
        .build()
        .and_then(Sources::try_deserialize)
        .map_err(|error| ConfigError::one(origin, "", without_values(&error)))
}

/// Escapes references, so that `resolve` returns the same string.
pub(crate) fn without_references(value: &str) -> String {
    value.replace("${", "$${")
}

/// Returns the first line of a parser's message, which has the position of the syntax error. The
/// following lines quote the file, which may contain a secret.
fn without_values(error: &SourceError) -> String {
    let text = match error {
        SourceError::FileParse { cause, .. } => cause.to_string(),
        _ => return "is not a valid configuration; give tables of keys and values".to_owned(),
    };
    let mut lines = text.lines();
    let place = lines.next().unwrap_or_default();
    format!("{place}; check quotes, brackets and duplicate keys")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, format: FileFormat, variables: &[(&str, &str)]) -> Result<Value, String> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        read_text("test", text, format, &variables).map_err(|error| error.to_string())
    }

    #[test]
    fn a_variable_overrides_a_value_of_the_file() {
        let text = "[pools.orders]\nport = 1\nhost = \"a\"\n";
        let variables = [("CLAVIGER_POOLS__ORDERS__PORT", "5433"), ("OTHER", "x")];
        let read = read(text, FileFormat::Toml, &variables);
        let expected = serde_json::json!({"pools": {"orders": {"port": "5433", "host": "a"}}});
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn names_keep_their_case_and_yaml_is_read() {
        let text = "pools:\n  Orders-DB:\n    port: 1\n    aws_iam_auth: true\n";
        let expected =
            serde_json::json!({"pools": {"Orders-DB": {"port": 1, "aws_iam_auth": true}}});
        assert_eq!(read(text, FileFormat::Yaml, &[]), Ok(expected));
    }

    #[test]
    fn a_syntax_error_names_the_line_and_shows_no_value() {
        for (text, format) in [
            ("[pools.orders]\npassword = s3cret\n", FileFormat::Toml),
            ("[pools.orders]\npassword = \"s3cret\n", FileFormat::Toml),
            ("[a]\nb = \"s3cret\"\nb = \"s3cret\"\n", FileFormat::Toml),
            ("pools:\n  a: \"s3cret\n b: [", FileFormat::Yaml),
            ("pools:\n  - a: s3cret\n b: {s3cret", FileFormat::Yaml),
        ] {
            let error = read(text, format, &[]).expect_err("it is invalid");
            assert!(error.contains("line"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
