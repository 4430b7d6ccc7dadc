//! Revision of credentials: a keyed digest, which identifies them and reveals nothing.

use std::sync::OnceLock;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::{Credentials, Revision};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Key of the digest, random for each process. As long as a block of SHA-256.
type Key = [u8; 64];

static KEY: OnceLock<Key> = OnceLock::new();

/// Returns the revision of these credentials. It is equal for equal user, password and endpoint in
/// this process, and different in every other process.
pub(crate) fn digest(credentials: &Credentials) -> Result<Revision, ProviderError> {
    let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new(key()?.into());
    update_part(&mut mac, credentials.user().as_bytes());
    update_part(&mut mac, credentials.expose_password().as_bytes());
    if let Some(endpoint) = credentials.endpoint() {
        update_part(&mut mac, endpoint.host().as_bytes());
        update_part(&mut mac, &endpoint.port().to_be_bytes());
        update_part(&mut mac, endpoint.database().as_bytes());
    }
    let digest = mac.finalize().into_bytes();
    Ok(Revision::new(format!("{digest:x}")))
}

/// Hashes the length before each part, so that different credentials never hash the same bytes.
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
            "the operating system returned no random bytes for revisions; see its log",
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
        // Few letters, so that equal contents and shifted boundaries occur.
        let short = "[ab]{0,3}";
        (short, short, proptest::option::of((short, 1u16..3, short)))
    }

    fn credentials((user, password, endpoint): &Parts) -> Credentials {
        let credentials = Credentials::new(user, password);
        match endpoint {
            Some((host, port, database)) => {
                credentials.with_endpoint(Endpoint::new(host, *port, database))
            }
            None => credentials,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(2_000)
        })]

        #[test]
        fn revisions_are_equal_if_and_only_if_contents_are(a in parts(), b in parts()) {
            let equal = digest(&credentials(&a)).unwrap() == digest(&credentials(&b)).unwrap();
            prop_assert_eq!(equal, a == b);
        }
    }

    #[test]
    fn shifted_boundaries_change_the_revision() {
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
    fn a_revision_is_a_keyed_digest_in_hexadecimal() {
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
