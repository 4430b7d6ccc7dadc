//! A JSON object with the fields of credentials.

use std::path::Path;

use claviger::{Credentials, Endpoint};
use serde_json::error::Category;
use serde_json::{Map, Value};

use crate::read_error::ReadError;
use crate::read_file::without_nul;

/// Parses the credentials in `text`. No message contains content, unlike serde's messages.
pub(super) fn parse(
    path: &Path,
    text: &str,
    user_key: Option<&str>,
    password_key: &str,
) -> Result<Credentials, ReadError> {
    let object = Object {
        path,
        map: parse_object(path, text)?,
    };
    let user = match user_key {
        Some(key) => object.required(&[key]),
        None => object.required(&["username", "user"]),
    }?;
    let password = object.required(&[password_key])?;
    let credentials = Credentials::new(user, password);
    match object.endpoint()? {
        Some(endpoint) => Ok(credentials.with_endpoint(endpoint)),
        None => Ok(credentials),
    }
}

fn parse_object(path: &Path, text: &str) -> Result<Map<String, Value>, ReadError> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ReadError::malformed(
            path,
            "is JSON but not an object; write an object with the credentials",
        )),
        Err(error) => {
            let position = format!("line {}, column {}", error.line(), error.column());
            Err(match error.classify() {
                Category::Eof => ReadError::malformed(
                    path,
                    &format!("is JSON that ends early, at {position}; write all of it"),
                )
                .unfinished(),
                _ => ReadError::malformed(
                    path,
                    &format!("is not JSON at {position}; write a JSON object with the credentials"),
                ),
            })
        }
    }
}

struct Object<'a> {
    path: &'a Path,
    map: Map<String, Value>,
}

const DATABASE_KEYS: [&str; 2] = ["dbname", "database"];

impl Object<'_> {
    fn endpoint(&self) -> Result<Option<Endpoint>, ReadError> {
        let Some(host) = self.text(&["host"])? else {
            // Ignoring them would connect to another server or database than the file names.
            return match self.find(&["port"])?.or(self.find(&DATABASE_KEYS)?) {
                None => Ok(None),
                Some((key, _)) => Err(self.malformed(&format!(
                    "the key \"{key}\" has no effect without \"host\"; add the host, or set \
                    \"{key}\" in the pool's connect options"
                ))),
            };
        };
        let mut endpoint = Endpoint::of_host(host);
        if let Some(port) = self.port()?.or_else(|| self.default_port()) {
            endpoint = endpoint.with_port(port);
        }
        if let Some(database) = self.text(&DATABASE_KEYS)? {
            endpoint = endpoint.with_database(database);
        }
        match endpoint.host_problem() {
            Some(problem) => Err(self.malformed(&format!("the key \"host\" {problem}"))),
            None => Ok(Some(endpoint)),
        }
    }

    /// Returns the key that is present and not null. `keys` are names of one field.
    fn find<'k>(&self, keys: &[&'k str]) -> Result<Option<(&'k str, &Value)>, ReadError> {
        let mut found = keys
            .iter()
            .filter_map(|key| Some((*key, self.map.get(*key).filter(|value| !value.is_null())?)));
        match (found.next(), found.next()) {
            (Some((one, _)), Some((other, _))) => Err(self.malformed(&format!(
                "the keys \"{one}\" and \"{other}\" name the same field; remove one of them"
            ))),
            (one, _) => Ok(one),
        }
    }

    fn text(&self, keys: &[&str]) -> Result<Option<String>, ReadError> {
        let Some((key, value)) = self.find(keys)? else {
            return Ok(None);
        };
        let Value::String(text) = value else {
            return Err(self.malformed(&format!("the key \"{key}\" must be a string")));
        };
        if text.is_empty() {
            return Err(self.malformed(&format!(
                "the key \"{key}\" must be a string that is not empty"
            )));
        }
        without_nul(self.path, &format!("the key \"{key}\""), text.clone()).map(Some)
    }

    fn required(&self, keys: &[&str]) -> Result<String, ReadError> {
        self.text(keys)?.ok_or_else(|| {
            let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
            self.malformed(&format!(
                "the key {} is missing; it must be a string",
                keys.join(" or ")
            ))
        })
    }

    fn port(&self) -> Result<Option<u16>, ReadError> {
        let Some((key, value)) = self.find(&["port"])? else {
            return Ok(None);
        };
        let port = match value {
            Value::Number(number) => number.as_u64().and_then(|port| u16::try_from(port).ok()),
            Value::String(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok()
            }
            _ => None,
        };
        let port = port.filter(|port| *port != 0);
        port.map(Some).ok_or_else(|| {
            self.malformed(&format!(
                "the key \"{key}\" must be a number from 1 to 65535, or one in quotes"
            ))
        })
    }

    /// Returns the default port of the `engine`, if it has one. Any other `engine` is ignored.
    fn default_port(&self) -> Option<u16> {
        Endpoint::default_port(self.map.get("engine")?.as_str()?)
    }

    fn malformed(&self, problem: &str) -> ReadError {
        ReadError::malformed(self.path, problem)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Result<Credentials, ReadError> {
        parse(Path::new("/run/orders.json"), text, None, "password")
    }

    fn problem(text: &str) -> String {
        parsed(text).unwrap_err().into_provider_error().to_string()
    }

    #[test]
    fn an_object_with_a_host_has_an_endpoint() {
        for host in ["", r#","host":null"#] {
            let text = format!(r#"{{"username":"u","password":"p"{host}}}"#);
            assert!(parsed(&text).unwrap().endpoint().is_none());
        }
        let credentials =
            parsed(r#"{"user":"u","password":"p","host":"h","database":"d"}"#).unwrap();
        assert_eq!(
            credentials.endpoint().unwrap(),
            &Endpoint::of_host("h").with_database("d")
        );
        for port in ["6432", "\"6432\""] {
            let credentials = parsed(&format!(
                r#"{{"user":"u","password":"p","host":"h","dbname":"d","port":{port}}}"#
            ))
            .unwrap();
            assert_eq!(credentials.endpoint().unwrap().port(), 6432);
        }
    }

    #[test]
    fn a_port_or_database_without_a_host_is_an_error() {
        for (field, names) in [
            (r#""port":6432"#, r#""port""#),
            (r#""dbname":"d""#, r#""dbname""#),
            (r#""database":"d","host":null"#, r#""database""#),
        ] {
            let problem = problem(&format!(r#"{{"username":"u","password":"p",{field}}}"#));
            assert!(
                problem.contains(names) && problem.contains(r#"without "host""#),
                "{problem}"
            );
        }
    }

    #[test]
    fn two_names_of_one_field_are_an_error_that_names_both() {
        for (text, names) in [
            (
                r#"{"user":"CANARY","username":"CANARY","password":"p"}"#,
                [r#""username""#, r#""user""#],
            ),
            (
                r#"{"user":"u","password":"p","host":"h","database":"CANARY","dbname":"x"}"#,
                [r#""dbname""#, r#""database""#],
            ),
        ] {
            let problem = problem(text);
            assert!(names.iter().all(|name| problem.contains(name)), "{problem}");
            assert!(!problem.contains("CANARY"), "{problem}");
        }
        // Null counts as missing.
        assert!(parsed(r#"{"user":"u","username":null,"password":"p"}"#).is_ok());
    }

    #[test]
    fn the_default_port_is_that_of_the_engine_or_of_the_pool() {
        for (engine, port) in [
            (r#""mysql""#, Some(3_306)),
            (r#""mariadb""#, Some(3_306)),
            (r#""postgres""#, Some(5_432)),
            (r#""unheard-of""#, None),
            (r#""""#, None),
            ("5", None),
            ("null", None),
            (r#"["postgres"]"#, None),
        ] {
            let named = |port: &str| {
                parsed(&format!(
                    r#"{{"user":"u","password":"p","host":"h","dbname":"d","engine":{engine}{port}}}"#
                ))
            };
            let without_port = Endpoint::of_host("h").with_database("d");
            let expected = port.map_or(without_port.clone(), |port| without_port.with_port(port));
            assert_eq!(named("").unwrap().endpoint(), Some(&expected), "{engine}");
            assert_eq!(
                named(r#","port":1"#).unwrap().endpoint(),
                Some(&Endpoint::new("h", 1, "d")),
                "{engine}"
            );
        }
    }

    #[test]
    fn without_a_dbname_the_database_is_that_of_the_pool() {
        for keys in ["", r#","dbname":null"#] {
            let credentials = parsed(&format!(
                r#"{{"user":"u","password":"p","host":"h","port":5432{keys}}}"#
            ))
            .unwrap();
            assert_eq!(credentials.endpoint(), Some(&Endpoint::server("h", 5_432)));
        }
    }

    #[test]
    fn an_ipv6_address_in_brackets_is_accepted() {
        let credentials =
            parsed(r#"{"user":"u","password":"p","host":"[::1]","port":5432}"#).unwrap();
        assert_eq!(credentials.endpoint().unwrap().host(), "::1");
    }

    #[test]
    fn an_invalid_host_is_malformed() {
        for host in [
            "db.internal:5432",
            "a,b",
            "postgres://CANARY",
            "db internal",
        ] {
            let problem = problem(&format!(
                r#"{{"user":"u","password":"p","host":"{host}","dbname":"d"}}"#
            ));
            assert!(
                problem.contains("the key \"host\"") && !problem.contains("CANARY"),
                "{problem}"
            );
        }
    }

    #[test]
    fn an_error_names_the_field_and_shows_no_value() {
        for (text, expected) in [
            (
                r#"{"password":"CANARY"}"#,
                "the key \"username\" or \"user\" is missing",
            ),
            (r#"{"username":"u"}"#, "the key \"password\" is missing"),
            (
                r#"{"username":"u","password":null}"#,
                "the key \"password\" is missing",
            ),
            (
                r#"{"username":"u","password":777444}"#,
                "the key \"password\" must be a string",
            ),
            (
                r#"{"username":["CANARY"],"password":"p"}"#,
                "the key \"username\" must be a string",
            ),
            (
                r#"{"username":"","password":"CANARY"}"#,
                "the key \"username\" must be a string that is not empty",
            ),
            (
                r#"{"username":"u","password":"CAN\u0000ARY"}"#,
                "the key \"password\" has a NUL",
            ),
            (
                r#"{"username":"u","password":"CANARY","host":"h","dbname":""}"#,
                "the key \"dbname\" must be a string that is not empty",
            ),
            (
                r#"{"username":"u","password":"CANARY","host":"h","database":5}"#,
                "the key \"database\" must be a string",
            ),
            (
                r#"{"username":"u","password":"CANARY","host":5}"#,
                "the key \"host\" must be a string",
            ),
            (r#"["CANARY"]"#, "not an object"),
            (r#""CANARY""#, "not an object"),
            ("CANARY", "line 1, column 1"),
            (
                "{\"username\":\"u\",\n\"password\":CANARY}",
                "line 2, column 12",
            ),
            (r#"{"username":"u","password":"CANARY"} CANARY"#, "line 1"),
        ] {
            let problem = problem(text);
            assert!(problem.contains(expected), "{text}: {problem}");
            assert!(
                !problem.contains("CANARY") && !problem.contains("777444"),
                "{problem}"
            );
        }
        for port in [
            "0",
            "65536",
            "-1",
            "5.5",
            "\"\"",
            "\"+5\"",
            "\" 5\"",
            "\"777444\"",
            "true",
        ] {
            let text = format!(
                r#"{{"username":"u","password":"p","host":"h","dbname":"d","port":{port}}}"#
            );
            assert!(
                problem(&text).contains("the key \"port\" must be a number from 1 to 65535"),
                "{port}"
            );
            assert!(!problem(&text).contains("777444"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn a_truncated_object_is_unfinished(
            user in "[^\0]{1,8}",
            password in "[^\0]{1,8}",
            cut in 0.0..1.0f64,
        ) {
            let whole = serde_json::json!({ "username": user, "password": password }).to_string();
            let credentials = parsed(&whole).unwrap();
            let read = (credentials.user(), credentials.expose_password());
            prop_assert_eq!(read, (user.as_str(), password.as_str()));
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a share of a short text"
            )]
            let cut = whole.floor_char_boundary((whole.len() as f64 * cut) as usize);
            prop_assert!(parsed(&whole[..cut]).unwrap_err().is_unfinished());
        }
    }
}
