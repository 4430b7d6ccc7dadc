//! The difference between this machine's clock and the backend's, by the header `Date`.

use std::time::{Duration, SystemTime};

use claviger::lease::Timestamp;
use claviger_config::{Backend, Connection};

use super::certificate::read_authorities;
use crate::finding::{Finding, Step, one_line};

/// Longest time of the request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Difference from which a note is made. The header has whole seconds.
const NOTABLE: Duration = Duration::from_secs(60);
/// Difference from which AWS rejects signed requests.
const REJECTED: Duration = Duration::from_secs(5 * 60);

/// Returns the addresses whose clock counts for the credentials: the first that responds is
/// compared. None for backends without a clock.
pub(super) fn addresses(connection: &Connection) -> Vec<String> {
    match connection.backend() {
        Backend::Vault { address, .. } => {
            vec![format!("{}/v1/sys/health", address.trim_end_matches('/'))]
        }
        #[cfg(feature = "aws")]
        Backend::RdsIam { .. }
        | Backend::ElasticacheIam { .. }
        | Backend::SecretsManager { .. } => {
            let Some(aws) = connection.aws() else {
                return Vec::new();
            };
            if let Some(url) = aws.endpoint_url() {
                return vec![url.to_owned()];
            }
            let region = super::identity::region(connection);
            let region = region.as_deref().unwrap_or("us-east-1");
            let domain = if region.starts_with("cn-") {
                "amazonaws.com.cn"
            } else {
                "amazonaws.com"
            };
            // Of a private network, the service that is used can be the only one with a way to it.
            let mut services = vec!["sts"];
            if matches!(connection.backend(), Backend::SecretsManager { .. }) {
                services.insert(0, "secretsmanager");
            }
            let address = |service| format!("https://{service}.{region}.{domain}/");
            services.into_iter().map(address).collect()
        }
        _ => Vec::new(),
    }
}

/// Requests the address and compares the clocks.
///
/// # Errors
/// The reason why the clock could not be read.
///
/// # Cancel safety
/// Dropping the future is safe.
pub(super) async fn skew(connection: &Connection, address: &str) -> Result<Skew, String> {
    let url = url::Url::parse(address).map_err(|error| error.to_string())?;
    let mut client = crate::http::client(&url).timeout(TIMEOUT);
    if let Backend::Vault {
        ca_file: Some(file),
        ..
    } = connection.backend()
    {
        for authority in read_authorities(file)? {
            let authority = reqwest::Certificate::from_der(&authority);
            client = client.add_root_certificate(authority.map_err(|error| reason(&error))?);
        }
    }
    let client = client.build().map_err(|error| reason(&error))?;
    let before = Timestamp::now().wall();
    let response = client.get(url).send().await;
    let response = response.map_err(|error| reason(&error))?;
    let after = Timestamp::now().wall();
    let date = response.headers().get(reqwest::header::DATE);
    let date = date.and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let date = date.ok_or("the response has no date")?;
    Ok(Skew::between(before, date, after))
}

/// Returns the last cause of an error, without the address.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_timeout() {
        return "no response within 5 s".to_owned();
    }
    one_line(&cause.to_string())
}

/// Difference between this machine's clock and another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skew {
    Behind(Duration),
    Ahead(Duration),
}

impl Skew {
    /// Compares a date with the times before the request and after the response. A date between
    /// them is no difference.
    pub(super) fn between(before: SystemTime, date: SystemTime, after: SystemTime) -> Self {
        if let Ok(ahead) = before.duration_since(date + Duration::from_secs(1)) {
            Self::Ahead(ahead)
        } else {
            Self::Behind(date.duration_since(after).unwrap_or_default())
        }
    }
}

/// Returns the finding for the difference to the backend of the credentials.
pub(super) fn skew_finding(address: &str, skew: &Result<Skew, String>) -> Finding {
    let host = url::Url::parse(address)
        .ok()
        .and_then(|url| url.host_str().map(one_line))
        .unwrap_or_else(|| "the backend".to_owned());
    match skew {
        Ok(skew) => finding(&host, *skew, true),
        Err(reason) => Finding::note(
            Step::Clock,
            "clock_not_compared",
            format!("the time of {host} could not be read: {}", one_line(reason)),
        ),
    }
}

/// Returns the finding for the difference to the database's clock. It counts for tokens alone:
/// their age is verified there.
pub(super) fn database_finding(host: &str, skew: Skew, is_token: bool) -> Finding {
    finding(
        &format!("the database at {}", one_line(host)),
        skew,
        is_token,
    )
}

fn finding(host: &str, skew: Skew, is_problem: bool) -> Finding {
    let (by, word) = match skew {
        Skew::Ahead(by) => (by, "ahead of"),
        Skew::Behind(by) => (by, "behind"),
    };
    let rounded = humantime::format_duration(Duration::from_secs(by.as_secs()));
    let detail = format!("this machine's clock is {rounded} {word} {host}");
    if by >= REJECTED && is_problem {
        Finding::problem(Step::Clock, "clock_skew", detail).with_next(
            "correct this machine's clock (chrony, systemd-timesyncd), or the other one; \
             signatures and tokens carry the time, and are rejected from 5 to 15 min on",
        )
    } else if by >= NOTABLE {
        Finding::note(Step::Clock, "clock_skew", detail).with_next(
            "correct the clock that is wrong: certificates, tokens and the expiry of credentials \
             depend on it",
        )
    } else {
        Finding::ok(Step::Clock, format!("as {host}, within 1 min"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn twenty_minutes_are_a_problem_in_either_direction() {
        let found = |skew| skew_finding("https://sts.eu-west-1.amazonaws.com/", &Ok(skew));
        let behind = found(Skew::Behind(20 * MINUTE));
        assert_eq!(behind.cause, Some("clock_skew"));
        assert!(behind.is_problem());
        assert_eq!(
            behind.detail,
            "this machine's clock is 20m behind sts.eu-west-1.amazonaws.com"
        );
        let ahead = found(Skew::Ahead(20 * MINUTE + Duration::from_millis(3)));
        assert!(ahead.detail.contains("20m ahead of"), "{ahead:?}");
        assert!(!found(Skew::Ahead(2 * MINUTE)).is_problem());
        assert_eq!(found(Skew::Ahead(Duration::from_secs(2))).cause, None);
    }

    #[test]
    fn a_date_during_the_request_is_no_difference() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let none = Skew::Behind(Duration::ZERO);
        assert_eq!(Skew::between(at(100), at(100), at(103)), none);
        assert_eq!(Skew::between(at(100), at(103), at(103)), none);
        let ahead = Skew::between(at(1_300), at(99), at(1_301));
        assert_eq!(ahead, Skew::Ahead(Duration::from_secs(1_200)));
        let behind = Skew::between(at(100), at(1_301), at(101));
        assert_eq!(behind, Skew::Behind(Duration::from_secs(1_200)));
    }

    #[test]
    fn a_backend_whose_clock_cannot_be_read_is_a_note() {
        let finding = skew_finding("http://10.0.0.1:8200/v1", &Err("refused".into()));
        assert_eq!(finding.cause, Some("clock_not_compared"));
        assert!(!finding.is_problem() && finding.detail.contains("10.0.0.1"));
    }
}
