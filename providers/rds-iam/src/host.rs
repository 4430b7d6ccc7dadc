//! Host that a token is signed for: as written, and as signed.

use std::net::{Ipv4Addr, Ipv6Addr};

use url::Url;

/// Longest name in DNS, and longest label: RFC 1035, section 2.3.4.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// A host name or address. As in boto3, a token contains it as written and signs it in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    written: String,
    signed: String,
}

impl Host {
    /// Parses a name, an IPv4 address, or an IPv6 address with or without brackets.
    ///
    /// # Errors
    /// The problem and what would be right.
    pub(crate) fn parse(host: &str) -> Result<Self, String> {
        if host.is_empty() {
            return Err(
                "is empty; set the endpoint of the DB instance, cluster or proxy".to_owned(),
            );
        }
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let written = if bare.parse::<Ipv6Addr>().is_ok() {
            format!("[{bare}]")
        } else {
            check_name(host)?;
            host.to_owned()
        };
        let signed = written.to_ascii_lowercase();
        // RDS would reject characters that no URL may contain.
        if Url::parse(&format!("https://{signed}/")).is_err() {
            return Err("is not a host name; set the endpoint as AWS shows it".to_owned());
        }
        Ok(Self { written, signed })
    }

    /// Returns it as written, an IPv6 address in brackets.
    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    /// Returns it in lower case.
    pub(crate) fn signed(&self) -> &str {
        &self.signed
    }
}

fn check_name(host: &str) -> Result<(), String> {
    // The host is not shown, because it may be a URL with a password.
    let problem = |what: &str| Err(what.to_owned());
    if host.contains("://") {
        return problem("has a scheme; set the name alone");
    }
    if host.contains(['/', '?', '#', '@']) {
        return problem("is a URL or a part of one; set the name alone");
    }
    if host.contains('%') {
        return problem(
            "has a `%`; write it without encoding, and an IPv6 address without its zone",
        );
    }
    if host.contains([':', '[', ']']) {
        return problem("is neither a name nor an IPv6 address; the port is a separate argument");
    }
    if !host.is_ascii() {
        return problem("is not ASCII; set its form that begins with `xn--`");
    }
    if let Some(odd) = host
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_'))
    {
        return problem(&format!(
            "has a {odd:?}; use letters, digits, `-`, `_` and dots"
        ));
    }
    // One dot at the end is that of the root. boto3 signs it, too.
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > LONGEST_NAME || name.split('.').any(|label| label.len() > LONGEST_LABEL) {
        return problem("is too long; a name has up to 253 characters, and 63 between two dots");
    }
    if name.split('.').any(str::is_empty) {
        return problem("has an empty part; write something between the dots");
    }
    // Parsers treat a name that ends in a number as an address.
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) && host.parse::<Ipv4Addr>().is_err() {
        return problem("ends in a number and is no IPv4 address");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    fn parsed(host: &str) -> (String, String) {
        let host = Host::parse(host).expect("it is a host");
        (host.written, host.signed)
    }

    #[test]
    fn a_host_is_written_as_given_and_signed_in_lower_case() {
        for host in [
            "db",
            "localhost",
            "127.0.0.1",
            "db-1.abc_d.eu-west-1.rds.amazonaws.com",
            "db.example.com.",
        ] {
            assert_eq!(parsed(host), (host.to_owned(), host.to_owned()));
        }
        assert_eq!(
            parsed("DB.Example.COM"),
            ("DB.Example.COM".to_owned(), "db.example.com".to_owned())
        );
    }

    #[test]
    fn an_ipv6_address_is_written_in_brackets() {
        for host in ["::1", "[::1]"] {
            assert_eq!(parsed(host), ("[::1]".to_owned(), "[::1]".to_owned()));
        }
        assert_eq!(
            parsed("2001:DB8::A"),
            ("[2001:DB8::A]".to_owned(), "[2001:db8::a]".to_owned())
        );
    }

    #[test]
    fn an_invalid_host_is_an_error_that_names_the_cause() {
        let long = "a".repeat(64);
        for (host, why) in [
            ("", "is empty"),
            (" ", "has a ' '"),
            ("db example", "has a ' '"),
            ("db\0", "has a '\\0'"),
            ("db\n", "has a '\\n'"),
            ("https://db.example.com", "has a scheme"),
            ("db.example.com/orders", "is a URL"),
            ("me@db.example.com", "is a URL"),
            ("db.example.com?x", "is a URL"),
            ("db.example.com:5432", "the port is a separate argument"),
            ("[::1]:5432", "the port is a separate argument"),
            ("[db]", "is neither"),
            ("[]", "is neither"),
            ("fe80::1%eth0", "zone"),
            ("db%2eexample", "has a `%`"),
            ("bücher.example", "xn--"),
            (".", "has an empty part"),
            ("..", "has an empty part"),
            (".db", "has an empty part"),
            ("db..example", "has an empty part"),
            ("1.2.3.4.5", "no IPv4 address"),
            ("db.1", "no IPv4 address"),
            ("300.1.1.1", "no IPv4 address"),
            ("127.1", "no IPv4 address"),
            ("xn--", "is not a host name"),
            ("db.0x7f", "is not a host name"),
            (long.as_str(), "is too long"),
        ] {
            let problem = Host::parse(host).expect_err(host);
            assert!(problem.contains(why), "{host:?}: {problem}");
            assert!(host.len() < 3 || !problem.contains(host), "{problem}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(
            host in "\\PC*|[a-z0-9.:%\\[\\]-]{0,80}|\
                     (xn--)?[a-z0-9-]{0,10}(\\.[0-9a-fx]{0,5}){0,4}",
        ) {
            if let Ok(host) = Host::parse(&host) {
                prop_assert!(host.signed.is_ascii());
                prop_assert!(host.written.eq_ignore_ascii_case(&host.signed));
            }
        }
    }
}
