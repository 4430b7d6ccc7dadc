//! Secrets that are written in a configuration file itself.

use serde_json::Value;

use crate::conform::{IS_URL, has_mark, join, resolved};
use crate::error::Problem;
use crate::values::{FILE, IS_SECRET};

/// Returns a problem for each secret that is written in the file itself.
pub(crate) fn secrets_in_file(value: &Value, schema: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    find_secrets(value, schema, schema, "", &mut problems);
    problems
}

fn find_secrets(
    value: &Value,
    schema: &Value,
    root: &Value,
    key: &str,
    problems: &mut Vec<Problem>,
) {
    let schema = resolved(root, schema);
    match value {
        Value::Object(table) => {
            for (name, value) in table {
                if let Some(schema) = schema_of(schema, name) {
                    find_secrets(value, schema, root, &join(key, name), problems);
                }
            }
        }
        // A number may be a password.
        Value::Number(_) if has_mark(schema, IS_SECRET) => problems.push(secret_in_file(key)),
        // `conform` reports an empty one.
        Value::String(text) if !text.is_empty() => {
            let is_secret = if has_mark(schema, IS_SECRET) {
                !text.starts_with(FILE) && !is_variable(text)
            } else {
                has_mark(schema, IS_URL) && has_password(text)
            };
            if is_secret {
                problems.push(secret_in_file(key));
            }
        }
        _ => {}
    }
}

/// Returns the schema of a key in any variant of a table, because the kind may be a reference.
fn schema_of<'s>(table: &'s Value, name: &str) -> Option<&'s Value> {
    let variants = table.get("oneOf").and_then(Value::as_array);
    let of_table = |table: &'s Value| table.get("properties")?.get(name);
    variants
        .into_iter()
        .flatten()
        .find_map(of_table)
        .or_else(|| of_table(table))
        .or_else(|| table.get("additionalProperties"))
}

/// Returns whether the text is one variable without a default.
fn is_variable(text: &str) -> bool {
    let name = text
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| !name.contains(['$', '{', '}', ':']))
}

fn secret_in_file(key: &str) -> Problem {
    Problem::new(
        key,
        "is a secret in the file; give ${NAME} or file:/path, or set `development = true`",
    )
}

/// Stands for a variable without a default in the result of [`without_references`].
const VARIABLE: &str = "\u{1}";
/// Stands for a variable with a default.
const DEFAULT: &str = "\u{2}";

/// Returns whether the URL has a password that is not a reference.
fn has_password(url: &str) -> bool {
    let text = without_references(url);
    if text == DEFAULT {
        let default = url.split_once(":-").map(|(_, default)| default);
        return default.is_some_and(has_password);
    }
    let Some((_, rest)) = text.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority
        .rsplit_once('@')
        .and_then(|(user, _)| user.split_once(':'))
        .is_some_and(|(_, password)| !password.is_empty() && password != VARIABLE)
}

/// Returns the text with a character in place of each reference. Separators in a default do not
/// belong to the URL.
fn without_references(text: &str) -> String {
    let (mut without, mut rest) = (String::new(), text);
    while let Some((before, reference)) = rest.split_once("${") {
        without.push_str(before);
        rest = reference;
        let Some((name, after)) = reference.split_once('}').filter(|_| !before.ends_with('$'))
        else {
            without.push_str("${");
            continue;
        };
        without.push_str(if name.contains(":-") {
            DEFAULT
        } else {
            VARIABLE
        });
        rest = after;
    }
    without + rest
}
