//! Tokens that boto3 signs.

use std::path::Path;

use claviger_aws_fixtures::Python;
use serde_json::json;

/// Signer, time and endpoint of a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case<'c> {
    pub(crate) host: &'c str,
    pub(crate) port: u16,
    pub(crate) user: &'c str,
    pub(crate) region: &'c str,
    /// Seconds since 1970.
    pub(crate) at: u64,
    pub(crate) key: &'c str,
    pub(crate) secret: &'c str,
    pub(crate) session: Option<&'c str>,
}

/// A Python process that signs with boto3.
pub(crate) struct Boto3(Python);

impl Boto3 {
    pub(crate) fn start(python: &Path) -> Self {
        Self(Python::start(python, include_str!("tokens.py")))
    }

    /// Returns the token, or boto3's error.
    pub(crate) fn token(&mut self, case: Case<'_>) -> Result<String, String> {
        self.0.token(&json!({
            "host": case.host,
            "port": case.port,
            "user": case.user,
            "region": case.region,
            "at": case.at,
            "key": case.key,
            "secret": case.secret,
            "session": case.session,
        }))
    }
}
