//! The HTTP client of the command.

use reqwest::ClientBuilder;
use reqwest::redirect::Policy;
use url::{Host, Url};

/// Returns the settings of a client for this address: it follows no redirect, and requests an
/// address of this machine through no proxy. A proxy would connect to its own machine.
pub(crate) fn client(address: &Url) -> ClientBuilder {
    let client = reqwest::Client::builder().redirect(Policy::none());
    if is_loopback(address) {
        client.no_proxy()
    } else {
        client
    }
}

/// Returns whether it is an address of this machine.
fn is_loopback(address: &Url) -> bool {
    match address.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn addresses_of_this_machine_are_recognized() {
        for (address, expected) in [
            ("http://127.0.0.1:8081", true),
            ("https://127.9.9.9", true),
            ("http://localhost.:8081", true),
            ("http://app.localhost:8081", true),
            ("http://[::1]:8081", true),
            ("http://[::ffff:127.0.0.1]:8081", true),
            ("http://10.0.0.1:8081", false),
            ("http://localhost.example:8081", false),
            ("http://notlocalhost:8081", false),
        ] {
            let url = Url::parse(address).expect("a URL");
            assert_eq!(is_loopback(&url), expected, "{address}");
        }
    }
}
