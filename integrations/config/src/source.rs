//! Reads the file and the environment into one tree of values.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use config::{Config as Sources, ConfigError as SourceError, File, FileFormat};
use serde_json::{Map, Value};

use crate::error::{ConfigError, Problem};

/// Prefix of environment variables that override the file, such as `CLAVIGER_POOLS__ORDERS__PORT`.
const PREFIX: &str = "CLAVIGER_";
/// Tables whose values can be overridden.
const TABLES: [&str; 6] = [
    "aws",
    "defaults",
    "pools",
    "providers",
    "supervisor",
    "vaults",
];
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
    let mut value: Value = Sources::builder()
        .add_source(File::from_str(text, format))
        .build()
        .and_then(Sources::try_deserialize)
        .map_err(|error| ConfigError::one(origin, "", without_values(&error)))?;
    let sorted: BTreeMap<_, _> = variables.iter().collect();
    let problems: Vec<_> = sorted
        .into_iter()
        .filter_map(|(variable, text)| set(&mut value, variable, text).err())
        .collect();
    if problems.is_empty() {
        Ok(value)
    } else {
        Err(ConfigError::new(origin, problems))
    }
}

/// Sets the value that a variable overrides. A variable that names no table has no effect.
fn set(value: &mut Value, variable: &str, text: &str) -> Result<(), Problem> {
    let Some(path) = variable.strip_prefix(PREFIX) else {
        return Ok(());
    };
    let mut names: Vec<_> = path.split(KEY_SEPARATOR).collect();
    let Some(key) = names.pop().filter(|_| !names.is_empty()) else {
        return Ok(());
    };
    let mut at = value;
    for (depth, name) in names.iter().enumerate() {
        let Value::Object(table) = at else {
            return Err(Problem::new(variable, "names no table of the file"));
        };
        let existing = table.keys().find(|key| is_named(key, name)).cloned();
        let known = TABLES.iter().find(|table| is_named(table, name));
        let key = match (existing, known) {
            (Some(existing), _) => existing,
            (None, Some(known)) if depth == 0 => (*known).to_owned(),
            // Another program's, such as CLAVIGER_A__B.
            (None, _) if depth == 0 => return Ok(()),
            (None, _) => {
                let message = format!("overrides no table of the file: `{name}` is unknown");
                return Err(Problem::new(variable, message));
            }
        };
        at = table
            .entry(key)
            .or_insert_with(|| Value::Object(Map::new()));
    }
    if let Value::Object(table) = at {
        let existing = table
            .keys()
            .find(|existing| is_named(existing, key))
            .cloned();
        let key = existing.unwrap_or_else(|| key.to_ascii_lowercase());
        // `${` in an environment variable is not a reference.
        table.insert(key, without_references(text).into());
    }
    Ok(())
}

/// Returns whether this is the name in a variable: in capitals, with `_` for other characters.
fn is_named(name: &str, in_variable: &str) -> bool {
    let capitals = name.chars().map(|one| match one.to_ascii_uppercase() {
        one if one.is_ascii_alphanumeric() => one,
        _ => '_',
    });
    capitals.eq(in_variable.to_ascii_uppercase().chars())
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
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
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
    fn a_variable_finds_a_name_with_other_characters_and_creates_none() {
        let text = "[pools.Orders-DB]\nport = 1\n";
        let value = read(
            text,
            FileFormat::Toml,
            &[("CLAVIGER_POOLS__ORDERS_DB__PORT", "2")],
        );
        let expected = serde_json::json!({"pools": {"Orders-DB": {"port": "2"}}});
        assert_eq!(value, Ok(expected));
        let error = read(
            text,
            FileFormat::Toml,
            &[("CLAVIGER_POOLS__OTHER__PORT", "2")],
        );
        assert!(
            error
                .expect_err("no such pool")
                .contains("CLAVIGER_POOLS__OTHER__PORT")
        );
        for other in ["CLAVIGER_REDIS_BIN", "CLAVIGER_PORT", "CLAVIGER_A__B"] {
            let value = read(text, FileFormat::Toml, &[(other, "x")]);
            let expected = serde_json::json!({"pools": {"Orders-DB": {"port": 1}}});
            assert_eq!(value, Ok(expected), "{other}");
        }
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
