//! A login's revision: a keyed digest, so that it names the login and reveals nothing of it.

use std::sync::OnceLock;

use claviger::{Credentials, ProviderError, ProviderErrorKind, Revision};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Random, for as long as the process lives; as long as a block of SHA-256.
type Key = [u8; 64];

static KEY: OnceLock<Key> = OnceLock::new();

/// The name of a login: the same for the same user, password and endpoint throughout this process,
/// another in every other process.
pub(crate) fn digest(login: &Credentials) -> Result<Revision, ProviderError> {
    let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new(key()?.into());
    update_part(&mut mac, login.user().as_bytes());
    update_part(&mut mac, login.expose_password().as_bytes());
    if let Some(endpoint) = login.location() {
        update_part(&mut mac, endpoint.host().as_bytes());
        update_part(&mut mac, &endpoint.port().to_be_bytes());
        update_part(&mut mac, endpoint.database().as_bytes());
    }
    let digest = mac.finalize().into_bytes();
    Ok(Revision::new(format!("{digest:x}")))
}

/// Each part after its length, so that no two logins have the same text.
fn update_part(mac: &mut Hmac<Sha256>, bytes: &[u8]) {
    mac.update(&(bytes.len() as u64).to_be_bytes());
    mac.update(bytes);
}

fn key() -> Result<&'static Key, ProviderError> {
    if let Some(key) = KEY.get() {
        return Ok(key);
    }
    let mut fresh = [0; 64];
    getrandom::fill(&mut fresh).map_err(|error| {
        ProviderError::new(
            ProviderErrorKind::Unavailable,
            "the operating system gave no randomness to name the login by",
        )
        .with_source(error)
    })?;
    Ok(KEY.get_or_init(|| fresh))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use claviger::Endpoint;
    use proptest::prelude::*;

    type Parts = (String, String, Option<(String, u16, String)>);

    fn parts() -> impl Strategy<Value = Parts> {
        // Few letters, so that equal contents and shifted boundaries do come up.
        let short = "[ab]{0,3}";
        (short, short, proptest::option::of((short, 1u16..3, short)))
    }

    fn login((user, password, endpoint): &Parts) -> Credentials {
        let login = Credentials::new(user, password);
        match endpoint {
            Some((host, port, database)) => login.endpoint(Endpoint::new(host, *port, database)),
            None => login,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

        #[test]
        fn revisions_are_equal_exactly_when_contents_are(a in parts(), b in parts()) {
            let equal = digest(&login(&a)).unwrap() == digest(&login(&b)).unwrap();
            prop_assert_eq!(equal, a == b);
        }
    }

    #[test]
    fn a_part_never_flows_into_the_next() {
        assert_ne!(
            digest(&Credentials::new("ab", "c")).unwrap(),
            digest(&Credentials::new("a", "bc")).unwrap()
        );
        assert_eq!(
            digest(&Credentials::new("ab", "c")).unwrap(),
            digest(&Credentials::new("ab", "c")).unwrap()
        );
    }

    #[test]
    fn it_is_a_keyed_digest_in_hexadecimal() {
        let revision = digest(&Credentials::new("orders", "s3cret")).unwrap();
        assert_eq!(revision.as_str().len(), 64);
        assert!(
            revision
                .as_str()
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit())
        );
        assert_ne!(key().unwrap(), &[0; 64]);
    }
}
