//! A connection URL.

use std::net::Ipv6Addr;
use std::path::Path;

use claviger::{Credentials, Endpoint};
use url::{ParseError, Url};

use crate::read_error::ReadError;
use crate::read_file::without_nul;

const SCHEMES: &str = "`postgres://`, `postgresql://`, `mysql://` or `mariadb://`";

/// Parses the credentials in `text`. No message contains a part of it, because in a malformed URL
/// any part may be the password.
pub(super) fn parse(path: &Path, text: &str) -> Result<Credentials, ReadError> {
    let malformed = |problem: &str| ReadError::malformed(path, problem);
    let text = text.trim_ascii();
    if text.is_empty() {
        return Err(malformed("is empty; write a connection URL there").unfinished());
    }
    if text.contains(|c: char| c.is_ascii_whitespace() || c.is_ascii_control()) {
        // The parser would drop some of them.
        return Err(malformed(
            "the URL has white space or a control character inside; percent-encode it",
        ));
    }
    // Checked before parsing, because the parser reports several hosts, or a second port, as an
    // invalid port.
    if let Some(problem) = written_host_problem(text) {
        return Err(malformed(&format!("the host in the URL {problem}")));
    }
    let url = Url::parse(text).map_err(|error| {
        // A raw `/` in the password makes a part of it the port.
        let port = match error {
            ParseError::InvalidPort => " with a port from 1 to 65535",
            _ => "",
        };
        malformed(&format!(
            "is not a URL: {error}; write {SCHEMES}{port} and percent-encode the user and the \
            password"
        ))
    })?;
    let default_port = match url.scheme() {
        "postgres" | "postgresql" => 5432,
        "mysql" | "mariadb" => 3306,
        _ => return Err(malformed(&format!("the URL must begin with {SCHEMES}"))),
    };
    let part = |what: &str, encoded: &str| {
        if encoded.is_empty() {
            return Err(malformed(&format!(
                "the URL has no {what}; write it as postgres://user:password@host:5432/database"
            )));
        }
        let decoded = decode(encoded).ok_or_else(|| {
            malformed(&format!(
                "the {what} in the URL has a % that does not begin a percent-encoded UTF-8 \
                character; write a lone % as %25"
            ))
        })?;
        without_nul(path, &format!("the {what} in the URL"), decoded)
    };
    let user = part("user", url.username())?;
    let password = part("password", url.password().unwrap_or_default())?;
    // Taken from the text, because the parser resolves `.` and `..`, which are names here.
    let authority = text.split_once("://").map_or("", |(_, rest)| rest);
    let rest = authority
        .find(['/', '?', '#'])
        .map_or("", |end| &authority[end..]);
    let database = rest
        .split('?')
        .next()
        .and_then(|path| path.strip_prefix('/'))
        .unwrap_or_default();
    // A raw `/`, `?` or `#` ends the authority. If a password also has an `@`, its first half would
    // be parsed as the host.
    if rest.contains(['@', '#']) || database.contains('/') {
        return Err(malformed(
            "the URL has a raw `@`, `/` or `#` after the host; percent-encode them in the user, \
            the password and the database",
        ));
    }
    let host = part("host", url.host_str().unwrap_or_default())?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(&host);
    if let Some(problem) = Endpoint::server(host, default_port).host_problem() {
        return Err(malformed(&format!("the host in the URL {problem}")));
    }
    let database = part("database", database)?;
    let port = url.port().unwrap_or(default_port);
    if port == 0 {
        return Err(malformed(
            "the port in the URL must be a number from 1 to 65535",
        ));
    }
    Ok(Credentials::new(user, password).with_endpoint(Endpoint::new(host, port, database)))
}

/// Returns the problem of the host as it is written, if any. The host follows the last `@` of the
/// authority and ends before the port.
fn written_host_problem(text: &str) -> Option<&'static str> {
    let (_, rest) = text.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    let (_, host) = authority.rsplit_once('@')?;
    if host.starts_with('[') || host.is_empty() {
        return None;
    }
    if host.parse::<Ipv6Addr>().is_ok() {
        return Some("is an IPv6 address; write it in brackets, as in [::1]");
    }
    // If an `@` follows, the password has a raw `/`.
    if host.ends_with(':') && after.starts_with("//") && !after.contains('@') {
        return Some("is a URL or a part of one; give the name or address alone");
    }
    let host = host.rsplit_once(':').map_or(host, |(host, _port)| host);
    Endpoint::server(decode(host)?, 1).host_problem()
}

/// Decodes strictly: returns `None` for a `%` without two hexadecimal digits and for bytes that are
/// not UTF-8.
fn decode(encoded: &str) -> Option<String> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut bytes = encoded.bytes();
    let mut decoded = Vec::with_capacity(encoded.len());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            digit(bytes.next()?)? << 4 | digit(bytes.next()?)?
        } else {
            byte
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Result<Credentials, ReadError> {
        parse(Path::new("/run/url"), text)
    }

    fn encode(text: &str) -> String {
        text.bytes().map(|byte| format!("%{byte:02X}")).collect()
    }

    #[test]
    fn every_part_is_decoded() {
        for (text, user, password, endpoint) in [
            (
                "postgres://user:p%40ss@host:6432/db?sslmode=require\n",
                "user",
                "p@ss",
                Endpoint::new("host", 6432, "db"),
            ),
            (
                "postgresql://u:p@h/d",
                "u",
                "p",
                Endpoint::new("h", 5432, "d"),
            ),
            ("mysql://u:p@h/d", "u", "p", Endpoint::new("h", 3306, "d")),
            (
                "  mariadb://u:p@h/d\r\n",
                "u",
                "p",
                Endpoint::new("h", 3306, "d"),
            ),
            (
                "postgres://first.last%2Bx%40corp:%25%2F%3A%C3%A9@db.internal/or%20ders",
                "first.last+x@corp",
                "%/:\u{e9}",
                Endpoint::new("db.internal", 5432, "or ders"),
            ),
            (
                "postgres://u:p+q@[::1]:5433/d",
                "u",
                "p+q",
                Endpoint::new("::1", 5433, "d"),
            ),
        ] {
            let credentials = parsed(text).unwrap();
            assert_eq!(
                (
                    credentials.user(),
                    credentials.expose_password(),
                    credentials.endpoint()
                ),
                (user, password, Some(&endpoint))
            );
        }
    }

    #[test]
    fn an_error_names_the_part_and_never_shows_the_url() {
        for (text, expected) in [
            ("postgres://:CANARY@h/d", "no user"),
            ("postgres://CANARY@h/d", "no password"),
            ("postgres://u:CANARY@h", "no database"),
            ("postgres://u:CANARY@h/", "no database"),
            ("postgres://u:CANARY@h/?dbname=x", "no database"),
            ("postgres:///CANARY", "no user"),
            ("postgres:CANARY", "no user"),
            ("CANARY", "not a URL"),
            ("canary:CANARY", "must begin with"),
            ("https://u:CANARY@h/d", "must begin with"),
            ("postgres://u:CANARY@h:port/d", "1 to 65535"),
            ("postgres://u:CANARY@h:99999/d", "1 to 65535"),
            ("postgres://u:CANARY@h:0/d", "port"),
            ("postgres://u:CAN ARY@h/d", "white space"),
            ("postgres://u:CAN\nARY@h/d", "white space"),
            ("postgres://u:p@h/d\npostgres://u:CANARY@h/d", "white space"),
            ("postgres://u:CANARY%@h/d", "%25"),
            ("postgres://u:CANARY%zz@h/d", "%25"),
            ("postgres://u:CANARY%FF@h/d", "UTF-8"),
            ("postgres://u:CANARY%00@h/d", "NUL"),
            // Raw separators in the password.
            ("postgres://u:p@CANARY/w@h/d", "percent-encode"),
            ("postgres://u:p@CANARY/w?x@h/d", "percent-encode"),
            ("postgres://u:p@CANARY/w#x@h/d", "percent-encode"),
            ("postgres://u:p@CANARY?w@h/d", "percent-encode"),
            ("postgres://u:p@CANARY/w@h/../d", "percent-encode"),
            ("postgres://u:12/CANARY@h/d", "no user"),
            ("postgres://u:CANARY/w@h/d", "not a URL"),
        ] {
            let problem = parsed(text).unwrap_err().into_provider_error().to_string();
            assert!(problem.contains(expected), "{text}: {problem}");
            assert!(!problem.contains("CANARY"), "{problem}");
        }
    }

    #[test]
    fn an_invalid_host_is_never_shown() {
        for (host, expected) in [
            ("CANARY:5432:5433", "has a port"),
            ("CANARY:5432:", "has a port"),
            ("CANARY%3A5432", "has a port"),
            ("CANARY%3A5432:5432", "has a port"),
            ("CANARY,b", "several hosts"),
            ("CANARY:5432,b:5432", "several hosts"),
            ("CANARY,[::1]:5432", "several hosts"),
            ("CANARY%2Cb", "several hosts"),
            ("CANARY%20b", "white space"),
            ("%20", "is empty"),
            ("CANARY%09", "white space"),
            ("postgres://CANARY", "is a URL"),
            ("postgres://CANARY:5432", "is a URL"),
            ("postgres%3A%2F%2FCANARY", "is a URL"),
            ("postgres%3A%2F%2FCANARY:5432", "is a URL"),
            ("CANARY%40b", "is a URL"),
            ("::1", "in brackets"),
            ("fe80::1", "in brackets"),
        ] {
            for scheme in ["postgres", "mysql"] {
                let problem = parsed(&format!("{scheme}://u:p@{host}/d"))
                    .unwrap_err()
                    .into_provider_error()
                    .to_string();
                assert!(
                    problem.contains("the host in the URL") && problem.contains(expected),
                    "{host}: {problem}"
                );
                assert!(!problem.contains("CANARY"), "{problem}");
            }
        }
        for (host, is) in [
            ("db.internal", "db.internal"),
            ("10.0.0.1:5433", "10.0.0.1"),
            ("[fe80::1]:5433", "fe80::1"),
            ("%2Frun%2Fpostgresql", "/run/postgresql"),
        ] {
            assert_eq!(
                parsed(&format!("postgres://u:p@{host}/d"))
                    .unwrap()
                    .endpoint()
                    .unwrap()
                    .host(),
                is
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn encoded_parts_are_decoded(
            user in "[^\0]{1,12}",
            password in "[^\0]{1,24}",
            database in "[^\0]{1,12}",
        ) {
            let [encoded_user, encoded_password] = [&user, &password].map(|text| encode(text));
            let text =
                format!("postgres://{encoded_user}:{encoded_password}@h/{}", encode(&database));
            let credentials = parsed(&text).unwrap();
            prop_assert_eq!(credentials.user(), &user);
            prop_assert_eq!(credentials.expose_password(), &password);
            prop_assert_eq!(credentials.endpoint().unwrap().database(), &database);
        }

        #[test]
        fn parsing_never_panics(text in "(postgres://)?[a-z:@/?#%\\[\\]0-9]{0,24}") {
            let _ = parsed(&text);
        }
    }
}
