//! Tokens as AWS's SDKs create them.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A valid token of about 1,650 bytes, which tests alter.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) endpoint: String,
    /// The parameters, percent-encoded.
    pub(crate) parameters: Vec<(&'static str, String)>,
}

impl Token {
    /// Creates a token signed at this time by the access key `ASIAEXAMPLE`, valid for 900 s.
    pub(crate) fn new(user: &str, signed: SystemTime) -> Self {
        let date = format_date(signed);
        let parameters = vec![
            ("Action", "connect".to_owned()),
            ("DBUser", percent_encode(user)),
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned()),
            ("X-Amz-Credential", credential("ASIAEXAMPLE", &date)),
            ("X-Amz-Date", date),
            ("X-Amz-Expires", "900".to_owned()),
            ("X-Amz-SignedHeaders", "host".to_owned()),
            ("X-Amz-Security-Token", "IQoJb3JpZ2lu%2F".repeat(90)),
            ("X-Amz-Signature", "0123456789abcdef".repeat(4)),
        ];
        Self {
            endpoint: "db.example.eu-west-1.rds.amazonaws.com:5432".to_owned(),
            parameters,
        }
    }

    /// Replaces a parameter's value, without encoding it.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.parameters
            .iter_mut()
            .find(|(parameter, _)| *parameter == name)
            .unwrap()
            .1 = value.into();
        self
    }

    pub(crate) fn text(&self) -> String {
        let parameters: Vec<_> = self
            .parameters
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        format!("{}/?{}", self.endpoint, parameters.join("&"))
    }
}

/// Returns `KEY/day/region/rds-db/aws4_request`, percent-encoded.
pub(crate) fn credential(key: &str, date: &str) -> String {
    format!("{key}%2F{}%2Feu-west-1%2Frds-db%2Faws4_request", &date[..8])
}

/// Formats a time as `20260102T030405Z`.
pub(crate) fn format_date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let output = Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%Y%m%dT%H%M%SZ"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub(crate) fn percent_encode(text: &str) -> String {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| {
            if is_unreserved(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// Returns the time of the system clock, by which servers verify tokens.
pub(crate) fn system_time() -> SystemTime {
    #[expect(
        clippy::disallowed_methods,
        reason = "the server verifies tokens by the system clock"
    )]
    SystemTime::now()
}

pub(crate) fn seconds_ago(seconds: u64) -> SystemTime {
    system_time() - Duration::from_secs(seconds)
}
