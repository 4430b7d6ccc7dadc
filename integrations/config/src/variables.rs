//! The configuration of a service with one database, from environment variables.

use std::collections::BTreeMap;

use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use crate::error::Problem;
use crate::nearest::misspelt;
use crate::origins::Origins;
use crate::schema::PoolKind;
use crate::source::{Variables, without_references};
use crate::url_settings::UrlSettings;
use crate::url_text::parse;
use crate::values::FILE;

/// Prefixes of the variables, each with the name of its pool.
const PREFIXES: [(&str, &str); 2] = [("DATABASE_", "database"), ("REDIS_", "redis")];

/// Returns the variables as the content of a configuration file, and which variable gave which
/// value. An unknown variable with one of the prefixes has no effect, unless it is probably
/// misspelt. An empty one counts as not set.
///
/// # Errors
/// No URL is set, there are no credentials, or a variable is misspelt.
pub(crate) fn from_variables(
    variables: &Variables,
    schema: &Value,
) -> Result<(Value, Origins), Vec<Problem>> {
    let keys: Vec<_> = schema
        .pointer("/$defs/PoolSettings/properties")
        .and_then(Value::as_object)
        .map(|properties| properties.keys().map(String::as_str).collect())
        .unwrap_or_default();
    let mut origins = Origins::default();
    let (mut providers, mut pools) = (Map::new(), Map::new());
    let mut problems = Vec::new();
    let sorted: BTreeMap<_, _> = variables.iter().collect();
    for (prefix, name) in PREFIXES {
        let with_prefix = || {
            let given = sorted.iter().filter(|(_, value)| !value.is_empty());
            given.filter_map(|(name, value)| Some((name.strip_prefix(prefix)?, *value)))
        };
        if !with_prefix().any(|(key, _)| matches!(key, "URL" | "HOST" | "HOSTNAME")) {
            continue;
        }
        origins.add_prefix(format!("pools.{name}"), prefix);
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
                "db" | "dbname" | "name" => ("database", value),
                "hostname" => ("host", value),
                "pass" => ("password", value),
                "password_file" => ("password", format!("{FILE}{value}")),
                "sslmode" => ("ssl_mode", value),
                "username" => ("user", value),
                "secret_id" => {
                    let provider = json!({"kind": "secrets-manager", "secret": value});
                    providers.insert(name.to_owned(), provider);
                    for key in ["kind", "secret"] {
                        origins.add(format!("providers.{name}.{key}"), &variable);
                    }
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
            let before = pool.insert(key.to_owned(), value.clone().into());
            if before.is_some_and(|before| before != value) {
                let message = "is given beside another variable with the same meaning; remove one";
                problems.push(Problem::new(&variable, message));
            }
            origins.add(format!("pools.{name}.{key}"), &variable);
        }
        // A cache with an invalid URL may be for another library.
        let is_reported_later = pools.is_empty() && has_invalid_url(&pool);
        if has_credentials(&pool) || is_reported_later {
            pools.insert(name.to_owned(), pool.into());
        } else if pools.is_empty() {
            let message = format!(
                "is not set; give {prefix}PASSWORD_FILE, {prefix}PASSWORD, {prefix}SECRET_ID or \
                 {prefix}AWS_IAM_AUTH=true"
            );
            problems.push(Problem::new(format!("{prefix}PASSWORD"), message));
        }
    }
    if pools.is_empty() && problems.is_empty() {
        problems.push(Problem::new(
            "DATABASE_URL",
            "is not set; give one such as postgres://orders@db.internal/orders",
        ));
    }
    if problems.is_empty() {
        Ok((json!({"providers": providers, "pools": pools}), origins))
    } else {
        Err(problems)
    }
}

fn has_credentials(pool: &Map<String, Value>) -> bool {
    let has_key = ["aws_iam_auth", "password", "provider"]
        .iter()
        .any(|key| pool.contains_key(*key));
    let url = pool.get("url").and_then(Value::as_str);
    // The problem of an invalid URL is reported later.
    let has_none = |url: &str| parse(url).is_ok_and(|url| url.password().is_none());
    has_key || url.is_some_and(|url| !has_none(url))
}

/// Returns whether the pool has a URL of another kind, or one with a parameter that is rejected.
fn has_invalid_url(pool: &Map<String, Value>) -> bool {
    let kind = pool.get("kind").cloned().unwrap_or_default();
    let kind = Option::<PoolKind>::deserialize(kind).ok().flatten();
    let url = pool.get("url").and_then(Value::as_str);
    url.is_some_and(|url| UrlSettings::parse(url, kind).is_err())
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
        from_variables(&variables, &Config::json_schema()).map(|(value, _)| value)
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
            ("REDIS_PASSWORD", "y"),
            ("DATABASE_USERNAME", "app"),
            ("DATABASE_USER", "app"),
            ("DATABASE_HOST", ""),
            ("PATH", "/bin"),
        ]);
        let expected = json!({"providers": {}, "pools": {
            "database": {
                "url": "postgres://orders@db/orders",
                "password": "file:/etc/$${x}",
                "max_connections": "3",
                "user": "app",
            },
            "redis": {"url": "redis://cache", "password": "y"},
        }});
        assert_eq!(value, Ok(expected));
    }

    #[test]
    fn a_cache_without_credentials_is_for_another_library() {
        let database = ("DATABASE_URL", "postgres://orders:pw@db/orders");
        for variable in [
            ("REDIS_URL", "redis://localhost:6379"),
            ("REDIS_HOST", "cache"),
        ] {
            let value = read(&[database, variable]).expect("the database is complete");
            assert!(value["pools"].get("redis").is_none(), "{value}");
            let alone = read(&[variable]).expect_err("nothing is left");
            assert_eq!(alone[0].key, "REDIS_PASSWORD", "{alone:?}");
        }
        // Nor is it examined.
        let other = ("REDIS_URL", "redis://cache?protocol=resp3");
        let value = read(&[database, other]).expect("the database is complete");
        assert!(value["pools"].get("redis").is_none(), "{value}");
        let cache = ("REDIS_URL", "rediss://:pw@cache:6379");
        let value = read(&[database, cache]).expect("both are complete");
        assert!(value["pools"].get("redis").is_some(), "{value}");
    }

    #[test]
    fn a_wrong_value_is_that_of_its_variable() {
        for (name, value, named) in [
            ("DATABASE_PORT", "5432a", "DATABASE_PORT: is not"),
            ("DATABASE_SSLMODE", "full", "DATABASE_SSLMODE: is unknown"),
            (
                "DATABASE_IDLE_TIMEOUT",
                "14",
                "DATABASE_IDLE_TIMEOUT: has no unit",
            ),
            (
                "DATABASE_URL",
                "postgres://db/orders?sslmode=full",
                "DATABASE_URL: has an",
            ),
            (
                "DATABASE_REGION",
                "eu-west-1",
                "DATABASE_REGION: is only for",
            ),
            ("DATABASE_USERNAME", "", "DATABASE_USER: is missing"),
            (
                "DATABASE_URL",
                "postgres://app:p@s3cret#word@127.0.0.1/orders",
                "DATABASE_URL: has a raw",
            ),
        ] {
            let mut variables: Variables = [
                ("DATABASE_URL", "postgres://db/orders"),
                ("DATABASE_USERNAME", "app"),
                ("DATABASE_PASSWORD", "s3cret"),
            ]
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
            variables.insert(name.to_owned(), value.to_owned());
            let config = Config::from_variables(&variables);
            let error = config.and_then(|config| config.check());
            let error = error.expect_err(name).to_string();
            let expected = format!("the environment: {named}");
            assert!(error.starts_with(&expected), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    /// Part of the password would be the port, so that there would be no password.
    #[test]
    fn a_separator_in_the_password_is_a_problem_of_the_url() {
        for url in [
            "postgres://app:12#s3cret@db/orders",
            "postgres://app:s3#cret@db/orders",
            "mysql://app:12/s3cret@db/orders",
            "postgres://app:12?s3cret@db/orders",
        ] {
            let variables = Variables::from([("DATABASE_URL".to_owned(), url.to_owned())]);
            let config = Config::from_variables(&variables);
            let error = config.and_then(|config| config.check());
            let error = error.expect_err(url).to_string();
            let expected = "the environment: DATABASE_URL: has a raw `#`";
            assert!(error.starts_with(expected), "{url}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_url_of_another_kind_is_a_problem_of_the_url() {
        for (url, word) in [
            ("sqlite:app.db", "unknown scheme; give postgres://"),
            (
                "jdbc:postgresql://db/orders?user=app&password=s3cret",
                "unknown scheme",
            ),
            ("file:./absent.db", "./absent.db cannot be read"),
            ("postgres://db/orders?useSSL=true", "give `sslmode`"),
        ] {
            let variables = Variables::from([("DATABASE_URL".to_owned(), url.to_owned())]);
            let config = Config::from_variables(&variables);
            let error = config.and_then(|config| config.check());
            let error = error.expect_err(url).to_string();
            let is_of_url = error.starts_with("the environment: DATABASE_URL: ");
            assert!(is_of_url && error.contains(word), "{url}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_problem_names_the_variable() {
        for (variables, name) in [
            (vec![("REDIS_AUTH", "x")], "DATABASE_URL"),
            (
                vec![("DATABASE_URL", "postgres://db/orders")],
                "DATABASE_PASSWORD",
            ),
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
