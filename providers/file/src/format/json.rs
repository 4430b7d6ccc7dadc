//! A JSON object with the login's parts.

use std::path::Path;

use claviger::{Credentials, Endpoint};
use serde_json::error::Category;
use serde_json::{Map, Value};

use crate::read_error::ReadError;
use crate::read_file::without_nul;

/// The login in `text`. No message carries a part of it, serde's least of all.
pub(super) fn parse(
    path: &Path,
    text: &str,
    user_key: Option<&str>,
    password_key: &str,
) -> Result<Credentials, ReadError> {
    let object = Object {
        path,
        map: object(path, text)?,
    };
    let user = match user_key {
        Some(key) => object.required(&[key]),
        None => object.required(&["username", "user"]),
    }?;
    let password = object.required(&[password_key])?;
    let credentials = Credentials::new(user, password);
    let Some(host) = object.text(&["host"])? else {
        return Ok(credentials);
    };
    let mut endpoint = Endpoint::of_host(host);
    if let Some(port) = object.port()?.or_else(|| object.default_port()) {
        endpoint = endpoint.with_port(port);
    }
    if let Some(database) = object.text(&["dbname", "database"])? {
        endpoint = endpoint.with_database(database);
    }
    match endpoint.host_problem() {
        Some(problem) => Err(object.malformed(&format!("the key `host` {problem}"))),
        None => Ok(credentials.endpoint(endpoint)),
    }
}

fn object(path: &Path, text: &str) -> Result<Map<String, Value>, ReadError> {
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ReadError::malformed(
            path,
            "holds JSON that is no object; write an object with the login's parts",
        )),
        Err(error) => {
            let at = format!("line {}, column {}", error.line(), error.column());
            Err(match error.classify() {
                Category::Eof => ReadError::malformed(
                    path,
                    &format!("holds JSON that ends early, at {at}; write it whole"),
                )
                .unfinished(),
                _ => ReadError::malformed(
                    path,
                    &format!("is not JSON at {at}; write a JSON object with the login's parts"),
                ),
            })
        }
    }
}

struct Object<'a> {
    path: &'a Path,
    map: Map<String, Value>,
}

impl Object<'_> {
    /// The first of `keys` that is there and not null.
    fn find<'k>(&self, keys: &[&'k str]) -> Option<(&'k str, &Value)> {
        keys.iter().find_map(|key| {
            self.map
                .get(*key)
                .filter(|value| !value.is_null())
                .map(|value| (*key, value))
        })
    }

    fn text(&self, keys: &[&str]) -> Result<Option<String>, ReadError> {
        let Some((key, value)) = self.find(keys) else {
            return Ok(None);
        };
        let Value::String(text) = value else {
            return Err(self.malformed(&format!("the key `{key}` must be a string")));
        };
        if text.is_empty() {
            return Err(self.malformed(&format!(
                "the key `{key}` must be a string that is not empty"
            )));
        }
        without_nul(self.path, &format!("the key `{key}`"), text.clone()).map(Some)
    }

    fn required(&self, keys: &[&str]) -> Result<String, ReadError> {
        self.text(keys)?.ok_or_else(|| {
            let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
            self.malformed(&format!(
                "the key {} is missing; it must be a string",
                keys.join(" or ")
            ))
        })
    }

    fn port(&self) -> Result<Option<u16>, ReadError> {
        let Some((key, value)) = self.find(&["port"]) else {
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
                "the key `{key}` must be a number from 1 to 65535, or a string of one"
            ))
        })
    }

    /// Returns the port of the `engine`, if it is known. Any other `engine` is ignored, as unknown
    /// keys are.
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
        parse(Path::new("/run/login.json"), text, None, "password")
    }

    fn problem(text: &str) -> String {
        parsed(text).unwrap_err().into_provider_error().to_string()
    }

    #[test]
    fn an_endpoint_comes_with_a_host_only() {
        assert!(
            parsed(r#"{"username":"u","password":"p","port":1,"dbname":"d"}"#)
                .unwrap()
                .location()
                .is_none()
        );
        assert!(
            parsed(r#"{"username":"u","password":"p","host":null}"#)
                .unwrap()
                .location()
                .is_none()
        );
        let credentials =
            parsed(r#"{"user":"u","password":"p","host":"h","database":"d"}"#).unwrap();
        assert_eq!(
            credentials.location().unwrap(),
            &Endpoint::of_host("h").with_database("d")
        );
        for port in ["6432", "\"6432\""] {
            let credentials = parsed(&format!(
                r#"{{"user":"u","password":"p","host":"h","dbname":"d","port":{port}}}"#
            ))
            .unwrap();
            assert_eq!(credentials.location().unwrap().port(), 6432);
        }
    }

    #[test]
    fn without_a_port_it_is_that_of_a_known_engine_or_of_the_pool() {
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
            let left_out = Endpoint::of_host("h").with_database("d");
            let expected = port.map_or(left_out.clone(), |port| left_out.with_port(port));
            assert_eq!(named("").unwrap().location(), Some(&expected), "{engine}");
            assert_eq!(
                named(r#","port":1"#).unwrap().location(),
                Some(&Endpoint::new("h", 1, "d")),
                "{engine}"
            );
        }
    }

    #[test]
    fn without_a_dbname_the_database_is_the_pools() {
        for keys in ["", r#","dbname":null"#] {
            let credentials = parsed(&format!(
                r#"{{"user":"u","password":"p","host":"h","port":5432{keys}}}"#
            ))
            .unwrap();
            assert_eq!(credentials.location(), Some(&Endpoint::server("h", 5_432)));
        }
    }

    #[test]
    fn an_address_in_brackets_is_taken() {
        let credentials =
            parsed(r#"{"user":"u","password":"p","host":"[::1]","port":5432}"#).unwrap();
        assert_eq!(credentials.location().unwrap().host(), "::1");
    }

    #[test]
    fn a_host_that_cannot_be_right_is_malformed() {
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
                problem.contains("the key `host`") && !problem.contains("CANARY"),
                "{problem}"
            );
        }
    }

    #[test]
    fn the_longer_name_of_a_key_goes_first() {
        let credentials = parsed(
            r#"{"user":"b","username":"a","password":"p","host":"h","database":"y","dbname":"x"}"#,
        )
        .unwrap();
        assert_eq!(
            (
                credentials.user(),
                credentials.location().unwrap().database()
            ),
            ("a", "x")
        );
    }

    #[test]
    fn what_is_wrong_is_named_and_never_shown() {
        for (text, says) in [
            (
                r#"{"password":"CANARY"}"#,
                "the key `username` or `user` is missing",
            ),
            (r#"{"username":"u"}"#, "the key `password` is missing"),
            (
                r#"{"username":"u","password":null}"#,
                "the key `password` is missing",
            ),
            (
                r#"{"username":"u","password":777444}"#,
                "the key `password` must be a string",
            ),
            (
                r#"{"username":["CANARY"],"password":"p"}"#,
                "the key `username` must be a string",
            ),
            (
                r#"{"username":"","password":"CANARY"}"#,
                "the key `username` must be a string that is not empty",
            ),
            (
                r#"{"username":"u","password":"CAN\u0000ARY"}"#,
                "the key `password` has a NUL",
            ),
            (
                r#"{"username":"u","password":"CANARY","host":"h","dbname":""}"#,
                "the key `dbname` must be a string that is not empty",
            ),
            (
                r#"{"username":"u","password":"CANARY","host":"h","database":5}"#,
                "the key `database` must be a string",
            ),
            (
                r#"{"username":"u","password":"CANARY","host":5}"#,
                "the key `host` must be a string",
            ),
            (r#"["CANARY"]"#, "no object"),
            (r#""CANARY""#, "no object"),
            ("CANARY", "line 1, column 1"),
            (
                "{\"username\":\"u\",\n\"password\":CANARY}",
                "line 2, column 12",
            ),
            (r#"{"username":"u","password":"CANARY"} CANARY"#, "line 1"),
        ] {
            let problem = problem(text);
            assert!(problem.contains(says), "{text}: {problem}");
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
                problem(&text).contains("the key `port` must be a number from 1 to 65535"),
                "{port}"
            );
            assert!(!problem(&text).contains("777444"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_object_cut_short_is_unfinished(user in "[^\0]{1,8}", password in "[^\0]{1,8}", cut in 0.0..1.0f64) {
            let whole = serde_json::json!({ "username": user, "password": password }).to_string();
            let credentials = parsed(&whole).unwrap();
            prop_assert_eq!((credentials.user(), credentials.expose_password()), (user.as_str(), password.as_str()));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a short text")]
            let cut = whole.floor_char_boundary((whole.len() as f64 * cut) as usize);
            prop_assert!(parsed(&whole[..cut]).unwrap_err().is_unfinished());
        }
    }
}
