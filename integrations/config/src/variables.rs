//! The configuration of a service with one database, from environment variables.

use serde_json::{Map, Value, json};

use crate::conform::nearest;
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
    for (prefix, name) in PREFIXES {
        let mut pool = Map::new();
        for (variable, value) in variables {
            let Some(key) = variable.strip_prefix(prefix) else {
                continue;
            };
            let key = key.to_ascii_lowercase();
            let value = without_references(value);
            match key.as_str() {
                "name" => drop(pool.insert("database".to_owned(), value.into())),
                "password_file" => {
                    pool.insert("password".to_owned(), format!("{FILE}{value}").into());
                }
                "secret_id" => {
                    let provider = json!({"kind": "secrets-manager", "secret": value});
                    providers.insert(name.to_owned(), provider);
                    pool.insert("provider".to_owned(), name.into());
                }
                key if keys.contains(&key) => {
                    pool.insert(key.to_owned(), value.into());
                }
                key => {
                    if let Some((similarity, nearest)) = nearest(key, &keys)
                        && similarity >= MIN_SIMILARITY
                    {
                        let nearest = nearest.to_ascii_uppercase();
                        let message = format!("is unknown; did you mean {prefix}{nearest}?");
                        problems.push(Problem::new(variable, message));
                    }
                }
            }
        }
        if pool.contains_key("url") || pool.contains_key("host") {
            pools.insert(name.to_owned(), pool.into());
        }
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
