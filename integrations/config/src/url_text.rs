//! URLs as people write them: a separator in the password is found before it is taken for one.

use percent_encoding::percent_decode_str;
use url::{ParseError, Url};

/// What to do about a separator that belongs to a part of the URL.
pub(crate) const RAW_SEPARATOR: &str = "has a raw `#`, `/`, `?` or `@` in a part of it; \
     percent-encode these in the user, the password and the database: `#` is %23, `/` is %2F, `?` is \
     %3F, `@` is %40";

/// What to do about a list of hosts.
pub(crate) const SEVERAL_HOSTS: &str = "has several hosts; give one, or `nodes` for a cluster";

/// Parses a URL.
///
/// # Errors
/// What is wrong, and what to give instead. The message contains no part of the URL, because in a
/// malformed one any part may be the password.
pub(crate) fn parse(text: &str) -> Result<Url, String> {
    check_url(text)?;
    let has_several_hosts = || {
        let (_, rest) = text.split_once("://").unwrap_or(("", text));
        let location = rest.split(['/', '?']).next().unwrap_or_default();
        let hosts = location
            .rsplit_once('@')
            .map_or(location, |(_, hosts)| hosts);
        hosts.contains(',')
    };
    Url::parse(text).map_err(|error| match error {
        ParseError::InvalidPort if has_several_hosts() => SEVERAL_HOSTS.to_owned(),
        ParseError::InvalidPort => {
            "has a port that is not a number from 1 to 65535; give one".to_owned()
        }
        error => {
            format!("is not a URL ({error}); give one such as postgres://orders@db.internal/orders")
        }
    })
}

/// Checks that no part of a connection's URL has a separator that is not percent-encoded. A parser
/// would take the text before it for the host, and a part of the password would be shown.
///
/// # Errors
/// What is wrong, and what to give instead, without a part of the URL.
pub fn check_url(text: &str) -> Result<(), &'static str> {
    let text = text.trim();
    if text.contains(|one: char| one.is_ascii_control()) {
        // The parser drops line ends and tabs.
        return Err("has a line end or another control character inside; percent-encode it");
    }
    let (_, rest) = text.split_once("://").unwrap_or(("", text));
    if rest.ends_with("#insecure") && text.starts_with("rediss://") {
        return Err("has `#insecure`, and the server is always verified; remove it");
    }
    let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
    // The last `@` of the authority ends the password.
    let path = location.split_once('/').map_or("", |(_, path)| path);
    let mut keys = query
        .split('&')
        .map(|pair| pair.split_once('=').map_or(pair, |(key, _)| key));
    if rest.contains('#') || path.contains('@') || keys.any(|key| key.contains(['@', '/'])) {
        return Err(RAW_SEPARATOR);
    }
    Ok(())
}

/// Decodes a part of a URL. `None` if it is not UTF-8.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_separator_in_the_password_is_no_separator() {
        for url in [
            "postgres://app:p@s3cret#word@127.0.0.1:5432/orders",
            "postgres://app:p@s3cret/word@db/orders",
            "postgres://app:p@s3cret?word@db/orders",
            "postgres://app:12#s3cret@db/orders",
            "postgres://app:12/s3cret@db/orders",
            "postgres://app:12?s3cret@db/orders",
            "postgres://app:s3#cret@db/orders",
            "postgres://app:s3/cret@db/orders",
            "postgres://app:s3?cret@db/orders",
            "postgres://app:pw@db/orders#s3cret",
            "postgres://#s3cret@db",
            "redis://:s3/cret@cache",
        ] {
            assert_eq!(parse(url), Err(RAW_SEPARATOR.to_owned()), "{url}");
        }
        let line = parse("postgres://app:s3\ncret@db/orders").err();
        assert!(line.unwrap_or_default().contains("line end"));
        let port = parse("postgres://db:543a/orders").err();
        assert!(port.unwrap_or_default().contains("65535"));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let hosts = parse("postgres://app:pw@a:5432,b:5432/orders").err();
        assert_eq!(hosts.as_deref(), Some(SEVERAL_HOSTS));
        let insecure = check_url("rediss://cache:6379/#insecure").err();
        assert!(insecure.unwrap_or_default().contains("`#insecure`"));
    }

    #[test]
    fn what_has_one_meaning_is_a_url() {
        for url in [
            // An `@` before the last one of the authority is a part of the password.
            "postgres://app:p@ss@db/orders",
            "postgres://app:p%23%2F%3F%40@db/orders",
            "postgres:///orders?host=/run/postgresql&user=app@corp",
            "postgres://db/orders?options=-c search_path=a",
            "postgres://db?options[b]=c",
            " postgres://db/orders\n",
        ] {
            assert!(parse(url).is_ok(), "{url}");
        }
    }
}
