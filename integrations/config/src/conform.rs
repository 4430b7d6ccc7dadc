//! Compares a configuration with the JSON schema: unknown keys and wrong types.
//!
//! serde reports only the first problem, and its message contains the value. This module reports
//! all problems, with the nearest known key, and no value. Strings are parsed as numbers where the
//! schema has numbers, because environment variables are strings.

use serde_json::{Map, Value};

use crate::error::Problem;
use crate::nearest::{list, suggestion};
use crate::references::{Encoding, resolve};
use crate::source::Variables;
use crate::values::{FILE, HumanDuration, IS_DURATION, IS_SECRET, TEXT};

/// Keyword of URLs in the JSON schema. Variables in a URL are percent-encoded.
pub(crate) const IS_URL: &str = "x-url";

/// Keyword of paths in the JSON schema. `file:/path` is the path, and not the file's content.
pub(crate) const IS_PATH: &str = "x-path";

const NO_TABLE: &str = "is not a table; give keys with values";

/// Key that selects the variant of a table.
const KIND: &str = "kind";

/// Resolves the references of the configuration, and parses its strings. Returns all problems.
pub(crate) fn conform(value: &mut Value, schema: &Value, variables: &Variables) -> Vec<Problem> {
    let mut walk = Walk {
        root: schema,
        variables,
        problems: Vec::new(),
    };
    walk.value(value, schema, "");
    walk.problems
}

struct Walk<'s> {
    root: &'s Value,
    variables: &'s Variables,
    problems: Vec<Problem>,
}

impl<'s> Walk<'s> {
    fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(key, message));
    }

    fn value(&mut self, value: &mut Value, schema: &'s Value, key: &str) {
        // Before the `null` of an optional value is removed.
        if value.is_null() && is_optional(schema) {
            return;
        }
        let schema = resolved(self.root, schema);
        if let Some(variants) = schema.get("oneOf").and_then(Value::as_array) {
            return self.variant(value, variants, key);
        }
        if let Some(names) = schema.get("enum").and_then(Value::as_array) {
            let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
            return self.name(value, &names, key);
        }
        match type_of(schema) {
            "object" => match value.as_object_mut() {
                Some(table) => self.table(table, schema, key),
                None => self.problem(key, NO_TABLE),
            },
            "array" => self.list(value, schema, key),
            kind => self.scalar(value, schema, kind, key),
        }
    }

    fn table(&mut self, table: &mut Map<String, Value>, schema: &'s Value, key: &str) {
        let known = schema.get("properties").and_then(Value::as_object);
        let others = schema
            .get("additionalProperties")
            .filter(|any| any.is_object());
        for (name, value) in table.iter_mut() {
            let at = join(key, name);
            if let Some(schema) = known.and_then(|known| known.get(name)) {
                self.value(value, schema, &at);
            } else if let Some(schema) = others {
                self.value(value, schema, &at);
            } else {
                let names = known.into_iter().flatten().map(|(name, _)| name.as_str());
                let nearest = suggestion(name, &names.collect::<Vec<_>>());
                self.problem(&at, format!("is unknown; {nearest}"));
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !table.contains_key(name) {
                self.problem(key, format!("needs the key `{name}`"));
            }
        }
    }

    /// Checks each item of a list. A string is a list with commas, because environment variables
    /// are strings.
    fn list(&mut self, value: &mut Value, schema: &'s Value, key: &str) {
        if !self.resolve(value, Encoding::Text, key) {
            return;
        }
        if let Value::String(text) = value {
            *value = text.split(',').map(str::trim).collect();
            return;
        }
        let (Some(items), Some(schema)) = (value.as_array_mut(), schema.get("items")) else {
            return self.problem(key, "is not a list; give one such as [\"a\", \"b\"]");
        };
        for item in items {
            self.value(item, schema, key);
        }
    }

    /// Checks a value that is one of several names, or a table whose `kind` selects its keys.
    fn variant(&mut self, value: &mut Value, variants: &'s [Value], key: &str) {
        let kinds: Vec<_> = variants
            .iter()
            .filter_map(|variant| variant.pointer("/properties/kind/const")?.as_str())
            .collect();
        if kinds.is_empty() {
            let names: Vec<_> = variants
                .iter()
                .filter_map(|variant| variant.get("const")?.as_str())
                .collect();
            return self.name(value, &names, key);
        }
        let Some(table) = value.as_object_mut() else {
            return self.problem(key, NO_TABLE);
        };
        let Some(kind) = table.get_mut(KIND) else {
            return self.problem(key, format!("needs the key `{KIND}`: {}", list(&kinds)));
        };
        self.name(kind, &kinds, &join(key, KIND));
        let chosen = kind.as_str().map(str::to_owned);
        let variant = variants.iter().find(|variant| {
            variant
                .pointer("/properties/kind/const")
                .and_then(Value::as_str)
                == chosen.as_deref()
        });
        if let Some(variant) = variant {
            self.table(table, variant, key);
        }
    }

    /// Checks that a value is one of these names.
    fn name(&mut self, value: &mut Value, names: &[&str], key: &str) {
        if !self.resolve(value, Encoding::Text, key) {
            return;
        }
        match value.as_str() {
            Some(name) if names.contains(&name) => {}
            Some(name) => self.problem(key, format!("is unknown; {}", suggestion(name, names))),
            None => self.problem(key, format!("is not a string; give one of {}", list(names))),
        }
    }

    fn scalar(&mut self, value: &mut Value, schema: &Value, kind: &str, key: &str) {
        let encoding = if has_mark(schema, IS_SECRET) {
            Encoding::Secret
        } else if has_mark(schema, IS_URL) {
            Encoding::Url
        } else if has_mark(schema, IS_PATH) {
            Encoding::Path
        } else {
            Encoding::Text
        };
        if !self.resolve(value, encoding, key) {
            return;
        }
        match kind {
            "integer" => self.integer(value, schema, key),
            "boolean" => {
                if let Some(parsed) = value.as_str().and_then(|text| text.parse::<bool>().ok()) {
                    *value = parsed.into();
                }
                if !value.is_boolean() {
                    self.problem(key, "is neither true nor false; give one, without quotes");
                }
            }
            "string" => {
                self.string(value, encoding, key);
                if has_mark(schema, IS_DURATION)
                    && let Some(text) = value.as_str().filter(|text| !text.is_empty())
                    && let Err(advice) = HumanDuration::parse(text)
                {
                    self.problem(key, advice);
                }
            }
            _ => {}
        }
    }

    fn string(&mut self, value: &mut Value, encoding: Encoding, key: &str) {
        // Digits without quotes are a number, also where a string is meant.
        if let Some(number) = value.as_i64() {
            let mark = if encoding == Encoding::Secret {
                TEXT
            } else {
                ""
            };
            *value = format!("{mark}{number}").into();
        }
        let advice = match (value.as_str(), encoding) {
            (None, _) => "is not a string; put it in quotes",
            (Some(""), _) => "is empty; give a value, or remove the key",
            (Some(TEXT), Encoding::Secret) => "is empty; give ${NAME} or file:/path",
            (Some(FILE), Encoding::Secret) => "has no path; give one as in file:/path",
            (Some(_), _) => return,
        };
        self.problem(key, advice);
    }

    fn integer(&mut self, value: &mut Value, schema: &Value, key: &str) {
        if let Some(parsed) = value.as_str().and_then(|text| text.parse::<u64>().ok()) {
            *value = parsed.into();
        }
        let maximum = schema.get("maximum").and_then(Value::as_u64);
        let maximum = maximum.unwrap_or(u64::from(u32::MAX));
        if value.as_u64().is_none_or(|number| number > maximum) {
            let advice = format!("is not a whole number from 0 to {maximum}; give one");
            self.problem(key, advice);
        }
    }

    /// Resolves the references of a string. Returns whether there was no problem.
    fn resolve(&mut self, value: &mut Value, encoding: Encoding, key: &str) -> bool {
        let Value::String(text) = value else {
            return true;
        };
        match resolve(text, encoding, self.variables) {
            Ok(resolved) => *text = resolved,
            Err(message) => {
                self.problem(key, message);
                return false;
            }
        }
        true
    }
}

/// Resolves references in a schema, and removes the `null` of an optional value.
pub(crate) fn resolved<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let mut schema = schema;
    loop {
        if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
            let Some(target) = root.pointer(path.trim_start_matches('#')) else {
                return schema;
            };
            schema = target;
        } else if let Some(any) = schema.get("anyOf").and_then(Value::as_array)
            && let Some(first) = any.iter().find(|one| type_of(one) != "null")
        {
            schema = first;
        } else {
            return schema;
        }
    }
}

fn is_optional(schema: &Value) -> bool {
    let of_type = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.contains(&"null".into()),
        Some(kind) => kind == "null",
        None => false,
    };
    let any = schema.get("anyOf").and_then(Value::as_array);
    of_type || any.is_some_and(|any| any.iter().any(is_optional))
}

/// Returns the type of a value that is not `null`.
fn type_of(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null")
            .unwrap_or_default(),
        _ => "",
    }
}

pub(crate) fn has_mark(schema: &Value, mark: &str) -> bool {
    schema.get(mark).and_then(Value::as_bool).unwrap_or(false)
}

pub(crate) fn join(key: &str, name: &str) -> String {
    if key.is_empty() {
        name.to_owned()
    } else {
        format!("{key}.{name}")
    }
}
