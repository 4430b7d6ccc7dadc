//! A JSON object, as AWS lays out the secret of a database.

use claviger::{Credentials, Endpoint};
use serde_json::error::Category;
use serde_json::{Map, Value};

use super::ContentError;

/// Keys of the fields. The defaults are those of AWS ("JSON structure of Secrets Manager
/// database credential secrets" in its user guide).
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) host: String,
    pub(crate) port: String,
    pub(crate) database: String,
    /// Whether the secret names the endpoint.
    pub(crate) endpoint: bool,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            user: "username".to_owned(),
            password: "password".to_owned(),
            host: "host".to_owned(),
            port: "port".to_owned(),
            database: "dbname".to_owned(),
            endpoint: false,
        }
    }
}

impl Keys {
    /// Returns each key with the name of its setting.
    pub(crate) fn settings(&self) -> [(&'static str, &str); 5] {
        [
            ("user_key", &self.user),
            ("password_key", &self.password),
            ("host_key", &self.host),
            ("port_key", &self.port),
            ("database_key", &self.database),
        ]
    }

    pub(super) fn read(&self, text: &str) -> Result<Credentials, ContentError> {
        // The parser's own message may quote what it read.
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let defect = if error.classify() == Category::Eof {
                "ends early"
            } else {
                "is not JSON"
            };
            let position = format!("at line {}, column {}", error.line(), error.column());
            ContentError::new(format!(
                "the secret {defect}, {position}; write a JSON object, or set \"user\" for a \
                secret that is only a password"
            ))
        })?;
        let Value::Object(object) = value else {
            return Err(ContentError::new(
                "the secret is JSON but not an object; write one, or set \"user\" for a secret \
                that is only a password",
            ));
        };
        let credentials = Credentials::new(
            text_at(&object, &self.user)?,
            text_at(&object, &self.password)?,
        );
        if !self.endpoint {
            return Ok(credentials);
        }
        let host = text_at(&object, &self.host)?;
        let port = self.port(&object)?;
        // Without a name in the secret, the database is that of the pool's connect options. The
        // engine's default is for AWS's rotation only.
        let endpoint = match object.get(&self.database) {
            None | Some(Value::Null) => Endpoint::server(host, port),
            _ => Endpoint::new(host, port, text_at(&object, &self.database)?),
        };
        match endpoint.host_problem() {
            Some(problem) => Err(ContentError::for_key(&self.host, problem)),
            None => Ok(credentials.with_endpoint(endpoint)),
        }
    }

    /// Returns the port: a number or a numeric string. Default: that of the `engine`.
    fn port(&self, object: &Map<String, Value>) -> Result<u16, ContentError> {
        let key = &self.port;
        let port = match object.get(key) {
            None | Some(Value::Null) => {
                return default_port(object).ok_or_else(|| {
                    ContentError::for_key(
                        key,
                        "is missing, and the \"engine\" has no known default; write the port",
                    )
                });
            }
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text))
                if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                text.parse().ok()
            }
            Some(_) => None,
        };
        port.and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0)
            .ok_or_else(|| {
                ContentError::for_key(key, "must be a number from 1 to 65535, or one in quotes")
            })
    }
}

fn default_port(object: &Map<String, Value>) -> Option<u16> {
    Endpoint::default_port(object.get("engine")?.as_str()?)
}

fn text_at<'o>(object: &'o Map<String, Value>, key: &str) -> Result<&'o str, ContentError> {
    match object.get(key) {
        None | Some(Value::Null) => Err(ContentError::for_key(
            key,
            "is missing; write it, or set the name of its key",
        )),
        Some(Value::String(text)) if text.is_empty() => {
            Err(ContentError::for_key(key, "is empty; write it"))
        }
        Some(Value::String(text)) if text.contains('\0') => Err(ContentError::for_key(
            key,
            "has a NUL character, which databases do not accept",
        )),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(ContentError::for_key(key, "must be a string")),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    fn keys_with_endpoint() -> Keys {
        Keys {
            endpoint: true,
            ..Keys::default()
        }
    }

    fn endpoint(credentials: &Credentials) -> (&str, u16, &str) {
        let endpoint = credentials.endpoint().unwrap();
        (endpoint.host(), endpoint.port(), endpoint.database())
    }

    #[test]
    fn the_secret_of_an_rds_database_is_read() {
        let text = r#"{"engine":"postgres","host":"db.internal","port":5432,
            "username":"orders","password":"s3cret","dbname":"orders",
            "masterarn":"arn:aws:secretsmanager:eu-west-1:123456789012:secret:master",
            "dbInstanceIdentifier":"db-1"}"#;
        let credentials = Keys::default().read(text).unwrap();
        assert_eq!(
            (credentials.user(), credentials.expose_password()),
            ("orders", "s3cret")
        );
        assert!(
            credentials.endpoint().is_none(),
            "the pool's connect options name the endpoint"
        );
        assert_eq!(
            endpoint(&keys_with_endpoint().read(text).unwrap()),
            ("db.internal", 5432, "orders")
        );
    }

    #[test]
    fn a_port_is_a_number_a_numeric_string_or_the_engines_default() {
        for (port, engine, is) in [
            ("5433", "postgres", 5433),
            ("\"5433\"", "postgres", 5433),
            ("null", "postgres", 5432),
            ("null", "aurora-postgresql", 5432),
            ("null", "mariadb", 3306),
            ("65535", "oracle", 65_535),
        ] {
            let text = format!(
                r#"{{"username":"u","password":"p","host":"h","dbname":"d","port":{port},"engine":"{engine}"}}"#
            );
            assert_eq!(endpoint(&keys_with_endpoint().read(&text).unwrap()).1, is);
        }
        for port in [
            "0",
            "65536",
            "-1",
            "5432.5",
            "\"\"",
            "\"5432 \"",
            "\"+5432\"",
            "\"x\"",
            "[]",
            "{}",
            "true",
            "1e3",
        ] {
            let text = format!(
                r#"{{"username":"u","password":"p","host":"h","dbname":"d","port":{port}}}"#
            );
            assert!(
                keys_with_endpoint()
                    .read(&text)
                    .unwrap_err()
                    .0
                    .starts_with("the key \"port\" must be"),
                "{port}"
            );
            assert!(
                Keys::default().read(&text).is_ok(),
                "ignored unless the endpoint is read from the secret"
            );
        }
        let text = r#"{"username":"u","password":"p","host":"h","dbname":"d","engine":"oracle"}"#;
        assert!(
            keys_with_endpoint()
                .read(text)
                .unwrap_err()
                .0
                .starts_with("the key \"port\" is missing")
        );
    }

    #[test]
    fn without_a_dbname_the_database_is_that_of_the_pool() {
        for (database, engine, is) in [
            ("\"orders\"", "postgres", Some("orders")),
            ("null", "postgres", Some("")),
            ("null", "mysql", Some("")),
            ("\"\"", "postgres", None),
        ] {
            let text = format!(
                r#"{{"username":"u","password":"p","host":"h","dbname":{database},"engine":"{engine}"}}"#
            );
            let read = keys_with_endpoint().read(&text);
            assert_eq!(
                read.as_ref()
                    .ok()
                    .map(|credentials| endpoint(credentials).2),
                is,
                "{database} {engine}"
            );
        }
    }

    #[test]
    fn custom_keys_are_read() {
        let keys = Keys {
            user: "login".to_owned(),
            password: "pw".to_owned(),
            host: "server".to_owned(),
            port: "tcp".to_owned(),
            database: "db".to_owned(),
            endpoint: true,
        };
        let text = r#"{"login":"u","pw":"p","server":"h","tcp":"1","db":"d","username":"no","password":"no"}"#;
        let credentials = keys.read(text).unwrap();
        assert_eq!(
            (
                credentials.user(),
                credentials.expose_password(),
                endpoint(&credentials)
            ),
            ("u", "p", ("h", 1, "d"))
        );
    }

    #[test]
    fn an_error_names_the_key_and_never_shows_the_value() {
        for (text, expected) in [
            ("CANARY", "is not JSON, at line 1, column 1"),
            ("", "ends early, at line 1"),
            (
                r#"{"username":"u","password":"CANARY"#,
                "ends early, at line 1",
            ),
            (
                r#"{"username":"u","password":CANARY}"#,
                "is not JSON, at line 1, column 28",
            ),
            (r#"{"username":"u","password":"p"} CANARY"#, "is not JSON"),
            (r#""CANARY""#, "not an object"),
            (r#"["CANARY"]"#, "not an object"),
            (
                r#"{"user":"CANARY","password":"CANARY"}"#,
                "the key \"username\" is missing",
            ),
            (
                r#"{"username":"CANARY"}"#,
                "the key \"password\" is missing",
            ),
            (
                r#"{"username":null,"password":"CANARY"}"#,
                "the key \"username\" is missing",
            ),
            (
                r#"{"username":"u","password":""}"#,
                "the key \"password\" is empty",
            ),
            (
                r#"{"username":"u","password":["CANARY"]}"#,
                "the key \"password\" must be a string",
            ),
            (
                r#"{"username":{"CANARY":1},"password":"CANARY"}"#,
                "the key \"username\" must be a string",
            ),
            (
                r#"{"username":"u","password":271828}"#,
                "the key \"password\" must be a string",
            ),
            (
                r#"{"username":"u","password":"CANARY\u0000"}"#,
                "the key \"password\" has a NUL",
            ),
            (
                r#"{"username":"u","password":"p","port":1}"#,
                "the key \"host\" is missing",
            ),
            (
                r#"{"username":"u","password":"p","host":["CANARY"],"port":1}"#,
                "the key \"host\" must be a string",
            ),
            (
                r#"{"username":"u","password":"p","host":"h","dbname":"d","port":"CANARY"}"#,
                "the key \"port\" must be a number",
            ),
        ] {
            let problem = keys_with_endpoint().read(text).unwrap_err().0;
            assert!(problem.contains(expected), "{text}: {problem}");
            assert!(
                !problem.contains("CANARY") && !problem.contains("271828"),
                "{problem}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn any_json_string_is_read_back(user in "[^\\x00]{1,20}", password in "[^\\x00]{1,40}") {
            let text = serde_json::json!({ "username": user, "password": password }).to_string();
            let credentials = Keys::default().read(&text).unwrap();
            let read = (credentials.user(), credentials.expose_password());
            prop_assert_eq!(read, (user.as_str(), password.as_str()));
        }

        #[test]
        fn no_error_shows_a_long_value(value in "[A-Z]{12}", cut in 0usize..80) {
            let text = format!(r#"{{"username":"{value}","password":"{value}","host":"{value}"}}"#);
            let text: String = text.chars().take(cut).collect();
            if let Err(error) = keys_with_endpoint().read(&text) {
                prop_assert!(!error.0.contains(&value), "{}", error.0);
            }
        }
    }
}
