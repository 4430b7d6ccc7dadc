//! The configuration of a service with one database, from environment variables.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::conform::most_similar;
use crate::error::Problem;
use crate::source::{Variables, without_references};
use crate::values::FILE;

/// Prefixes of the variables, each with the name of its pool.
const PREFIXES: [(&str, &str); 2] = [("DATABASE_", "database"), ("REDIS_", "redis")];

/// Smallest similarity to a known key at which a variable is reported as misspelt.
const MIN_SIMILARITY: f64 = 0.75;

/// Returns the variables as the content of a configuration file. An unknown variable with one of
/// the prefixes has no effect, unless it is probably misspelt.
///
/// # Errors
/// No URL is set, or a variable is misspelt.
pub(crate) fn from_variables(variables: &Variables, schema: &Value) -> Result<Value, Vec<Problem>> {
    let keys: Vec<_> = schema
        .pointer("/$defs/PoolSettings/properties")
        .and_then(Value::as_object)
        .map(|properties| properties.keys().map(String::as_str).collect())
        .unwrap_or_default();
    let (mut providers, mut pools) = (Map::new(), Map::new());
    let mut problems = Vec::new();
    let sorted: BTreeMap<_, _> = variables.iter().collect();
    for (prefix, name) in PREFIXES {
        let with_prefix = || {
            let variables = sorted.iter();
            variables.filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, *value)))
        };
        if !with_prefix().any(|(key, _)| matches!(key, "URL" | "HOST")) {
            continue;
        }
        let mut pool = Map::new();
        for (capitals, value) in with_prefix() {
            // Kubernetes sets `REDIS_PORT=tcp://…` for a service with this name.
            if capitals == "PORT" && value.contains("://") {
                continue;
            }
            let variable = format!("{prefix}{capitals}");
            let key = capitals.to_ascii_lowercase();
            let value = without_references(value);
            let (key, value) = match key.as_str() {
                "name" => ("database", value),
                "password_file" => ("password", format!("{FILE}{value}")),
                "secret_id" => {
                    let provider = json!({"kind": "secrets-manager", "secret": value});
                    providers.insert(name.to_owned(), provider);
                    ("provider", name.to_owned())
                }
                key if keys.contains(&key) => (key, value),
                key => {
                    if let Some(nearest) = misspelt(key, &keys) {
                        let nearest = nearest.to_ascii_uppercase();
                        let message = format!("is unknown; did you mean {prefix}{nearest}?");
                        problems.push(Problem::new(variable, message));
                    }
                    continue;
                }
            };
            if pool.insert(key.to_owned(), value.into()).is_some() {
                let message = "is given beside another variable with the same meaning; remove one";
                problems.push(Problem::new(variable, message));
            }
        }
        pools.insert(name.to_owned(), pool.into());
    }
    if pools.is_empty() {
        problems.push(Problem::new(
            "DATABASE_URL",
            "is not set; give one such as postgres://orders@db.internal/orders",
        ));
    }
    if problems.is_empty() {
        Ok(json!({"providers": providers, "pools": pools}))
    } else {
        Err(problems)
    }
}

/// Returns the known key of which this is probably a misspelling.
fn misspelt<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let similarity = |one: &str| strsim::normalized_damerau_levenshtein(key, one);
    most_similar(known, similarity)
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .map(|(_, nearest)| nearest)
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(variables: &[(&str, &str)]) -> Result<Value, Vec<Problem>> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        from_variables(&variables, &Config::json_schema())
    }

    #[test]
    fn a_database_and_a_cache_are_read_from_variables() {
        let value = read(&[
            ("DATABASE_URL", "postgres://orders@db/orders"),
            ("DATABASE_PASSWORD_FILE", "/etc/${x}"),
            ("DATABASE_MAX_CONNECTIONS", "3"),
            ("DATABASE_UNRELATED", "x"),
            ("REDIS_URL", "redis://cache"),
            ("REDIS_PORT", "tcp://10.0.0.1:6379"),
            ("REDIS_AUTH", "x"),
            ("PATH", "/bin"),
        ]);
        let expected = json!({"providers": {}, "pools": {
            "database": {
                "url": "postgres://orders@db/orders",
                "password": "file:/etc/$${x}",
                "max_connections": "3",
            },
            "redis": {"url": "redis://cache"},
        }});
        assert_eq!(value, Ok(expected));
    }

    #[test]
    fn a_problem_names_the_variable() {
        for (variables, name) in [
            (vec![("REDIS_AUTH", "x")], "DATABASE_URL"),
            (
                vec![("DATABASE_URL", "x"), ("DATABASE_MAX_CONECTIONS", "3")],
                "DATABASE_MAX_CONECTIONS",
            ),
            (
                vec![
                    ("DATABASE_URL", "x"),
                    ("DATABASE_PASSWORD", "x"),
                    ("DATABASE_PASSWORD_FILE", "/x"),
                ],
                "DATABASE_PASSWORD_FILE",
            ),
        ] {
            let problems = read(&variables).expect_err(name);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert_eq!(problems[0].key, name);
        }
    }
}
