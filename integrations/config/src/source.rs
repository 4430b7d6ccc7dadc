//! Reads the file and the environment into one tree of values.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use config::{Config as Sources, ConfigError as SourceError, File, FileFormat};
use serde_json::{Map, Value};

use crate::error::{ConfigError, Problem};
use crate::nearest::{misspelt, suggestion};
use crate::origins::Origins;
use crate::yaml::Yaml;

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

/// Format of a file, by its extension.
#[derive(Clone, Copy, Debug)]
enum Format {
    Toml,
    Yaml,
}

/// A file as it is, and with the values that variables override.
pub(crate) struct Read {
    pub(crate) in_file: Value,
    pub(crate) merged: Value,
    pub(crate) origins: Origins,
}

/// Reads a TOML or YAML file. Variables override its values.
///
/// # Errors
/// The file cannot be read, or is invalid. The message contains no part of the file.
pub(crate) fn read_file(path: &Path, variables: &Variables) -> Result<Read, ConfigError> {
    let origin = path.display().to_string();
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => Format::Toml,
        Some("yaml" | "yml") => Format::Yaml,
        _ => {
            let message = "has no known extension; give a .toml, .yaml or .yml file";
            return Err(ConfigError::one(&origin, "", message));
        }
    };
    let problem = |message: String| ConfigError::one(&origin, "", message);
    let bytes = std::fs::read(path).map_err(|error| problem(format!("cannot be read: {error}")))?;
    let text = text_of(bytes).map_err(problem)?;
    read_text(&origin, &text, format, variables)
}

/// Returns the text of a file without a byte order mark.
fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err("is encoded as UTF-16; save it as UTF-8".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = error.as_bytes().iter().take(valid);
        let line = before.filter(|byte| **byte == b'\n').count() + 1;
        format!("has a character at line {line} that is not UTF-8; save it as UTF-8")
    })?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map_or(text.clone(), str::to_owned))
}

/// Reads the text of a file. Variables override its values.
///
/// # Errors
/// As [`read_file`].
fn read_text(
    origin: &str,
    text: &str,
    format: Format,
    variables: &Variables,
) -> Result<Read, ConfigError> {
    let sources = match format {
        Format::Toml => Sources::builder().add_source(File::from_str(text, FileFormat::Toml)),
        Format::Yaml => Sources::builder().add_source(File::from_str(text, Yaml)),
    };
    let in_file: Value = sources
        .build()
        .and_then(Sources::try_deserialize)
        .map_err(|error| ConfigError::one(origin, "", without_values(&error)))?;
    let mut merged = in_file.clone();
    let mut origins = Origins::default();
    let sorted: BTreeMap<_, _> = variables.iter().collect();
    let mut problems = Vec::new();
    for (variable, text) in sorted {
        match set(&mut merged, variable, text) {
            Ok(Some(key)) => origins.add(key, variable),
            Ok(None) => {}
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok(Read {
            in_file,
            merged,
            origins,
        })
    } else {
        Err(ConfigError::new(origin, problems))
    }
}

/// Sets the value that a variable overrides. Returns its key. A variable that names no table has no
/// effect, unless it is probably misspelt.
fn set(value: &mut Value, variable: &str, text: &str) -> Result<Option<String>, Problem> {
    let Some(path) = variable.strip_prefix(PREFIX) else {
        return Ok(None);
    };
    let mut names: Vec<_> = path.split(KEY_SEPARATOR).collect();
    let Some(key) = names.pop().filter(|_| !names.is_empty()) else {
        let path = path.to_ascii_lowercase();
        let is_in = |table: &str| {
            path.strip_prefix(table)
                .is_some_and(|rest| rest.starts_with('_'))
        };
        return match TABLES.iter().find(|table| is_in(table)) {
            // Such as CLAVIGER_POOLS_ORDERS_PORT.
            Some(table) => {
                let table = table.to_ascii_uppercase();
                let message =
                    format!("overrides nothing; give names as in {PREFIX}{table}__NAME__KEY");
                Err(Problem::new(variable, message))
            }
            None => Ok(None),
        };
    };
    let mut keys = Vec::new();
    let mut at = value;
    for (depth, name) in names.iter().enumerate() {
        let Value::Object(table) = at else {
            let message = "overrides no table of the file; give the name of one";
            return Err(Problem::new(variable, message));
        };
        let existing = named(table, variable, name)?;
        let known = TABLES.iter().find(|table| is_named(table, name));
        let key = match (existing, known) {
            (Some(existing), _) => existing,
            (None, Some(known)) if depth == 0 => (*known).to_owned(),
            (None, _) if depth == 0 => {
                return match misspelt(&name.to_ascii_lowercase(), &TABLES) {
                    Some(table) => {
                        let table = table.to_ascii_uppercase();
                        let message = format!(
                            "overrides nothing: `{name}` is unknown; did you mean `{table}`?"
                        );
                        Err(Problem::new(variable, message))
                    }
                    // Another program's, such as CLAVIGER_A__B.
                    None => Ok(None),
                };
            }
            (None, _) => {
                let known: Vec<_> = table.keys().map(String::as_str).collect();
                let nearest = suggestion(name, &known);
                let message =
                    format!("overrides no table of the file: `{name}` is unknown; {nearest}");
                return Err(Problem::new(variable, message));
            }
        };
        keys.push(key.clone());
        at = table
            .entry(key)
            .or_insert_with(|| Value::Object(Map::new()));
    }
    let Value::Object(table) = at else {
        let message = "overrides no table of the file; give the name of one";
        return Err(Problem::new(variable, message));
    };
    let existing = named(table, variable, key)?;
    let key = existing.unwrap_or_else(|| key.to_ascii_lowercase());
    keys.push(key.clone());
    // `${` in an environment variable is not a reference.
    table.insert(key, without_references(text).into());
    Ok(Some(keys.join(".")))
}

/// Returns the key that a part of a variable's name stands for.
///
/// # Errors
/// There are several.
fn named(
    table: &Map<String, Value>,
    variable: &str,
    name: &str,
) -> Result<Option<String>, Problem> {
    let mut keys = table.keys().filter(|key| is_named(key, name));
    match (keys.next(), keys.next()) {
        (Some(first), Some(second)) => {
            let message = format!("`{name}` names `{first}` and `{second}`; rename one of them");
            Err(Problem::new(variable, message))
        }
        (key, _) => Ok(key.cloned()),
    }
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

/// Returns the position of a syntax error and the parser's reason. The lines between them quote the
/// file, which may contain a secret.
fn without_values(error: &SourceError) -> String {
    let text = match error {
        SourceError::FileParse { cause, .. } => cause.to_string(),
        _ => return "is not a valid configuration; give tables of keys and values".to_owned(),
    };
    let (place, rest) = text.split_once('\n').unwrap_or((&text, ""));
    // A quoted line is `  | …`, `2 | …` or `  |   ^^^`.
    let is_quoted = |line: &&str| {
        let line = line.trim_start_matches(|one: char| one.is_ascii_digit() || one == ' ');
        line.starts_with('|')
    };
    let reason = rest
        .lines()
        .skip_while(is_quoted)
        .collect::<Vec<_>>()
        .join(" ");
    let place = place.trim_end();
    let advice = if reason.contains("duplicate") || reason.contains("twice") {
        "remove one of the two"
    } else if reason.contains("tab") {
        "indent with spaces"
    } else {
        "check quotes, brackets and indentation"
    };
    match reason.as_str() {
        "" => format!("{place}; {advice}"),
        reason => format!("{place}: {reason}; {advice}"),
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn read(text: &str, format: Format, variables: &[(&str, &str)]) -> Result<Value, String> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let read = read_text("test", text, format, &variables);
        read.map(|read| read.merged)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_variable_overrides_a_value_of_the_file() {
        let text = "[pools.orders]\nport = 1\nhost = \"a\"\n";
        let variables = [("CLAVIGER_POOLS__ORDERS__PORT", "5433"), ("OTHER", "x")];
        let read = read(text, Format::Toml, &variables);
        let expected = serde_json::json!({"pools": {"orders": {"port": "5433", "host": "a"}}});
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn a_variable_finds_a_name_with_other_characters_and_creates_none() {
        let text = "[pools.Orders-DB]\nport = 1\n";
        let value = read(
            text,
            Format::Toml,
            &[("CLAVIGER_POOLS__ORDERS_DB__PORT", "2")],
        );
        let expected = serde_json::json!({"pools": {"Orders-DB": {"port": "2"}}});
        assert_eq!(value, Ok(expected));
        let error = read(text, Format::Toml, &[("CLAVIGER_POOLS__OTHER__PORT", "2")]);
        assert!(
            error
                .expect_err("no such pool")
                .contains("CLAVIGER_POOLS__OTHER__PORT")
        );
        for misspelt in [
            "CLAVIGER_POOLS_ORDERS_DB_PORT",
            "CLAVIGER_POOLS__ORDERS_D__PORT",
            "CLAVIGER_POOL__ORDERS_DB__PORT",
            "CLAVIGER_PROVIDER__ORDERS__PATH",
            "CLAVIGER_DEFAULT__PORT",
        ] {
            let error = read(text, Format::Toml, &[(misspelt, "2")]).expect_err(misspelt);
            assert!(error.contains(misspelt) && error.contains(';'), "{error}");
        }
        for other in ["CLAVIGER_REDIS_BIN", "CLAVIGER_PORT", "CLAVIGER_A__B"] {
            let value = read(text, Format::Toml, &[(other, "x")]);
            let expected = serde_json::json!({"pools": {"Orders-DB": {"port": 1}}});
            assert_eq!(value, Ok(expected), "{other}");
        }
    }

    #[test]
    fn a_variable_that_names_two_tables_is_an_error() {
        let text = "[pools.a-b]\nport = 1\n[pools.a_b]\nport = 1\n[pools.c]\nport = 1\n";
        let variable = "CLAVIGER_POOLS__A_B__PORT";
        let error = read(text, Format::Toml, &[(variable, "2")]).expect_err("two");
        let both = "names `a-b` and `a_b`; rename one of them";
        assert!(error.contains(variable) && error.contains(both), "{error}");
        let other = read(text, Format::Toml, &[("CLAVIGER_POOLS__C__PORT", "2")]);
        assert!(other.is_ok(), "{other:?}");
    }

    #[test]
    fn names_keep_their_case_and_yaml_is_read() {
        let text = "pools:\n  Orders-DB:\n    port: 1\n    aws_iam_auth: true\n";
        let expected =
            serde_json::json!({"pools": {"Orders-DB": {"port": 1, "aws_iam_auth": true}}});
        assert_eq!(read(text, Format::Yaml, &[]), Ok(expected));
    }

    #[test]
    fn a_syntax_error_names_the_line_and_shows_no_value() {
        for (text, format) in [
            ("[pools.orders]\npassword = s3cret\n", Format::Toml),
            ("[pools.orders]\npassword = \"s3cret\n", Format::Toml),
            ("[a]\nb = \"s3cret\"\nb = \"s3cret\"\n", Format::Toml),
            ("pools:\n  a: \"s3cret\n b: [", Format::Yaml),
            ("pools:\n  - a: s3cret\n b: {s3cret", Format::Yaml),
        ] {
            let error = read(text, format, &[]).expect_err("it is invalid");
            assert!(error.contains("line"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        let twice = read("[a]\nb = \"s3cret\"\nb = 1\n", Format::Toml, &[]);
        let twice = twice.expect_err("it is invalid");
        assert!(
            twice.contains("line 3, column 1: duplicate key; remove one"),
            "{twice}"
        );
    }

    #[test]
    fn a_file_in_another_encoding_is_named() {
        let text = |bytes: &[u8]| text_of(bytes.to_vec());
        assert_eq!(text(b"\xEF\xBB\xBFa = 1\r\n"), Ok("a = 1\r\n".to_owned()));
        let utf16 = text(b"\xFF\xFEa\0").expect_err("UTF-16");
        assert!(utf16.contains("UTF-16"), "{utf16}");
        let latin = text(b"a = 1\nb = \"\xE9\"").expect_err("Latin-1");
        assert!(latin.contains("line 2"), "{latin}");
    }
}
