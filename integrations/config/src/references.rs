//! References in the strings of a configuration: `${NAME}`, `${NAME:-default}` and `file:/path`.

use std::path::Path;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::source::Variables;
use crate::values::{FILE, TEXT, read_reference};

/// Characters that a URL may contain anywhere.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Encoding in which the value of a reference is inserted into a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Unchanged.
    Text,
    /// Unchanged, after `text:`. The path of a file is kept after `file:`, because the file is read
    /// later. The value of a variable is never a reference.
    Secret,
    /// Unchanged. The path of a file is the value.
    Path,
    /// Percent-encoded, unless a variable is the whole URL.
    Url,
}

/// Replaces the references of a string. `$${` becomes `${`.
///
/// # Errors
/// A variable is not set, a brace is missing, or a file cannot be read. The message has no value.
pub(crate) fn resolve(
    text: &str,
    encoding: Encoding,
    variables: &Variables,
) -> Result<String, String> {
    if let Some(path) = text.strip_prefix(FILE) {
        let path = with_variables(path, Encoding::Path, variables)?;
        return match encoding {
            Encoding::Secret => Ok(format!("{FILE}{path}")),
            Encoding::Path => Ok(path),
            Encoding::Text | Encoding::Url => read_reference(Path::new(&path)),
        };
    }
    let text = with_variables(text, encoding, variables)?;
    Ok(match encoding {
        Encoding::Secret => format!("{TEXT}{text}"),
        _ => text,
    })
}

/// Replaces the variables of a string.
fn with_variables(text: &str, encoding: Encoding, variables: &Variables) -> Result<String, String> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            resolved.push_str(before);
            resolved.push_str("${");
            rest = &reference[2..];
            continue;
        }
        resolved.push_str(before);
        let Some(end) = reference.find('}') else {
            return Err("has `${` without `}`; write `$${` for a literal `${`".to_owned());
        };
        let value = value_of(&reference[2..end], variables)?;
        let is_whole = before.is_empty() && end + 1 == text.len();
        if encoding == Encoding::Url && !is_whole {
            resolved.extend(utf8_percent_encode(value, UNRESERVED));
        } else {
            resolved.push_str(value);
        }
        rest = &reference[end + 1..];
    }
    resolved.push_str(rest);
    Ok(resolved)
}

/// Returns the value of a reference without its braces.
fn value_of<'v>(reference: &'v str, variables: &'v Variables) -> Result<&'v str, String> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let is_name = |one: char| one.is_ascii_alphanumeric() || one == '_';
    if name.is_empty() || !name.chars().all(is_name) {
        return Err("has a reference without a name; give ${NAME} or ${NAME:-default}".to_owned());
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err("has a reference in the default of a reference; give a plain default".into());
    }
    match (
        variables.get(name).filter(|value| !value.is_empty()),
        default,
    ) {
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default),
        (None, None) => Err(format!(
            "needs the environment variable {name}, which is empty or not set"
        )),
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn resolved(text: &str, encoding: Encoding) -> Result<String, String> {
        let variables = [
            ("HOST", "db.internal"),
            ("PW", "a/b@c"),
            ("EMPTY", ""),
            ("LIKE_A_REFERENCE", "file:s3cret"),
        ];
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        resolve(text, encoding, &variables)
    }

    #[test]
    fn variables_replace_their_references() {
        for (text, expected) in [
            ("${HOST}", "db.internal"),
            ("a ${HOST} b ${HOST}", "a db.internal b db.internal"),
            ("${ABSENT:-other}", "other"),
            ("${EMPTY:-other}", "other"),
            ("${HOST:-other}", "db.internal"),
            ("$${HOST}", "${HOST}"),
            ("no reference, 5 $", "no reference, 5 $"),
        ] {
            assert_eq!(
                resolved(text, Encoding::Text),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_variable_in_a_url_is_encoded_and_a_whole_url_is_not() {
        let url = resolved("postgres://orders:${PW}@${HOST}/orders", Encoding::Url);
        assert_eq!(
            url,
            Ok("postgres://orders:a%2Fb%40c@db.internal/orders".to_owned())
        );
        assert_eq!(resolved("${PW}", Encoding::Url), Ok("a/b@c".to_owned()));
    }

    #[test]
    fn a_reference_without_a_value_is_an_error_that_names_it() {
        for (text, word) in [
            ("${ABSENT}", "ABSENT"),
            ("${EMPTY}", "EMPTY"),
            ("${HOST", "without"),
            ("${}", "name"),
            ("${a b}", "name"),
            ("${ABSENT:-${HOST}}", "default"),
            ("file:/absent/file", "/absent/file"),
        ] {
            let error = resolved(text, Encoding::Text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_is_read_at_once_unless_it_is_a_secret() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "db.internal\n").expect("written");
        let text = format!("file:{}", file.path().display());
        assert_eq!(
            resolved(&text, Encoding::Text),
            Ok("db.internal".to_owned())
        );
        assert_eq!(resolved(&text, Encoding::Secret), Ok(text.clone()));
    }

    #[test]
    fn the_value_of_a_variable_is_no_reference_to_a_file() {
        let password = resolved("${LIKE_A_REFERENCE}", Encoding::Secret);
        assert_eq!(password, Ok("text:file:s3cret".to_owned()));
        let path = resolved("file:/run/${HOST}", Encoding::Secret);
        assert_eq!(path, Ok("file:/run/db.internal".to_owned()));
    }
}
