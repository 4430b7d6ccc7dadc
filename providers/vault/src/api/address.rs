//! Address of the server.

use claviger::error::ProviderError;
use url::Url;

use crate::path::misconfigured;

const ADDRESS_ADVICE: &str = "set scheme, host and port only, as in https://vault.internal:8200";

/// Parses an address.
///
/// # Errors
/// `Misconfigured`, without the address, because it may contain a password.
pub(super) fn parse(address: &str) -> Result<Url, ProviderError> {
    let url = Url::parse(address).map_err(|_| misconfigured("address", ADDRESS_ADVICE))?;
    let is_bare =
        matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    if matches!(url.scheme(), "http" | "https") && has_host && is_bare && is_anonymous {
        Ok(url)
    } else {
        Err(misconfigured("address", ADDRESS_ADVICE))
    }
}

/// Returns whether the traffic is private: over TLS, or within this machine.
pub(super) fn is_private(url: &Url) -> bool {
    url.scheme() == "https" || is_loopback(url)
}

/// Returns whether it is an address of this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Formats the address without a slash at its end.
pub(super) fn format(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn scheme_host_and_port_are_an_address() {
        for (address, expected) in [
            ("https://vault.internal:8200", "https://vault.internal:8200"),
            ("http://127.0.0.1:8200/", "http://127.0.0.1:8200"),
            ("https://[::1]:8200", "https://[::1]:8200"),
        ] {
            assert_eq!(format(&parse(address).unwrap()), expected);
        }
    }

    #[test]
    fn plain_http_is_private_on_this_machine_only() {
        for (address, private) in [
            ("https://vault.internal:8200", true),
            ("http://localhost:8200", true),
            ("http://127.0.0.9:8200", true),
            ("http://[::1]:8200", true),
            ("http://vault.internal:8200", false),
            ("http://10.0.0.1:8200", false),
            ("http://localhost.evil.example:8200", false),
        ] {
            assert_eq!(is_private(&parse(address).unwrap()), private, "{address}");
        }
    }

    #[test]
    fn any_other_address_is_an_error_that_does_not_show_it() {
        for address in [
            "",
            "vault.internal",
            "vault.internal:8200",
            "ftp://vault",
            "https://",
            "https://user:CANARY@vault",
            "https://vault/v1",
            "https://vault?CANARY",
            "https://vault#CANARY",
            "https://va ult",
            "http://vault:99999",
            "unix:///run/vault.sock",
        ] {
            let error = parse(address).unwrap_err().to_string();
            assert!(
                error.starts_with("\"address\"") && error.contains("https://vault.internal:8200"),
                "{address}: {error}"
            );
            assert!(!error.contains("CANARY"), "{error}");
        }
    }
}
