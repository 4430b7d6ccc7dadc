//! Secrets that no output may contain.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_credential_types::Credentials as AwsCredentials;
use claviger::{Credentials, Lease};
use parking_lot::Mutex;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::leases::{parameter, token};

/// The secrets that must not be in any output, collected as they are issued.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Arc<Mutex<BTreeSet<String>>>);

impl Secrets {
    /// Adds a secret.
    pub fn add(&self, secret: &str) {
        self.0.lock().insert(secret.to_owned());
    }

    /// Adds the secrets of a session that STS issued.
    pub fn add_session(&self, credentials: &AwsCredentials) {
        self.add(credentials.secret_access_key());
        let session = credentials.session_token().expect("STS issues sessions");
        self.add(session);
        self.add(&utf8_percent_encode(session, NON_ALPHANUMERIC).to_string());
    }

    /// Adds a token, its signature and its session token.
    pub fn add_token(&self, lease: &Lease<Credentials>) {
        self.add(token(lease));
        for name in ["X-Amz-Signature", "X-Amz-Security-Token"] {
            self.add(parameter(token(lease), name).expect("it is there"));
        }
    }

    /// Returns how many were added.
    #[expect(clippy::len_without_is_empty, reason = "no test needs it")]
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Returns the lines of a text that contain a secret.
    pub fn lines_with_secrets<'t>(&self, text: &'t str) -> Vec<&'t str> {
        let secrets = self.0.lock();
        // The value of an Authorization header contains its signature.
        let has_secret = |line: &&str| {
            secrets.iter().any(|secret| line.contains(&**secret)) || line.contains("Signature=")
        };
        text.lines().filter(has_secret).collect()
    }

    /// Asserts that the text contains none.
    pub fn assert_absent(&self, what: &str, text: &str) {
        assert!(
            self.lines_with_secrets(text).is_empty(),
            "{what} shows a secret: {:#?}",
            self.lines_with_secrets(text)
        );
    }
}
