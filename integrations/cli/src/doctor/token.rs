//! The claims and the age of an IAM token.

use std::time::{Duration, SystemTime};

use claviger_config::TlsMode;
use url::Url;

use crate::finding::{Finding, Step, one_line};

/// Difference to the future that AWS tolerates.
const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// The parts of a presigned URL that a server verifies. Neither key nor signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    /// Endpoint of RDS; `None` for a cache, whose token has its name.
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) user: String,
    pub(super) region: String,
    pub(super) signed: SystemTime,
    pub(super) lifetime: Duration,
}

impl Claims {
    /// Reads a token; `None` if it is not one of IAM.
    pub(super) fn parse(token: &str) -> Option<Self> {
        let url = Url::parse(&format!("https://{token}")).ok()?;
        let value = |name: &str| {
            let mut pairs = url.query_pairs();
            pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
        };
        if value("Action").as_deref() != Some("connect") {
            return None;
        }
        let credential = value("X-Amz-Credential")?;
        let of_rds = value("DBUser");
        let host = url.host_str()?;
        Some(Self {
            host: of_rds.is_some().then(|| host.to_owned()),
            port: url.port(),
            user: of_rds.or_else(|| value("User"))?,
            region: credential.split('/').nth(2)?.to_owned(),
            signed: signed(&value("X-Amz-Date")?)?,
            lifetime: Duration::from_secs(value("X-Amz-Expires")?.parse().ok()?),
        })
    }
}

/// Parses a time such as `20261130T020000Z`.
fn signed(text: &str) -> Option<SystemTime> {
    let part = |from, to| text.get(from..to);
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(9, 11)?,
        part(11, 13)?,
        part(13, 15)?
    );
    humantime::parse_rfc3339(&text).ok()
}

/// Where and when a token is used.
pub(super) struct Use<'p> {
    pub(super) host: &'p str,
    pub(super) port: u16,
    pub(super) user: &'p str,
    /// Region in the name of the host.
    pub(super) region: Option<&'p str>,
    pub(super) now: SystemTime,
}

/// Returns the finding for a token that a login at this place would use.
pub(super) fn token_finding(claims: Option<&Claims>, place: &Use<'_>) -> Finding {
    let Some(claims) = claims else {
        return Finding::note(
            Step::Token,
            "not_an_iam_token",
            "the token is not one of IAM; its claims are not checked",
        );
    };
    let region = one_line(&claims.region);
    if let Some(of_host) = place.region
        && of_host != claims.region
    {
        return Finding::problem(
            Step::Token,
            "wrong_region",
            format!("signed for region {region}; the host is in {of_host}"),
        )
        .with_next(format!("set `region = \"{of_host}\"`, or remove `region`"));
    }
    if claims.user != place.user {
        return Finding::problem(
            Step::Token,
            "token_of_another_user",
            format!(
                "signed for user {}; the login is of {}",
                one_line(&claims.user),
                one_line(place.user)
            ),
        )
        .with_next("set the same user for the token and the pool");
    }
    let Some(end) = claims.signed.checked_add(claims.lifetime) else {
        let seconds = claims.lifetime.as_secs();
        let detail = format!("valid for {seconds} s (X-Amz-Expires), which AWS does not accept");
        return Finding::problem(Step::Token, "invalid_token_lifetime", detail)
            .with_next("check what writes the token: AWS's own tools sign for 900 s");
    };
    if let Ok(since) = place.now.duration_since(end) {
        let since = humantime::format_duration(Duration::from_secs(since.as_secs()));
        return Finding::problem(Step::Token, "token_expired", format!("expired {since} ago"))
            .with_next("check what writes the token, and this machine's clock");
    }
    if claims.signed > place.now + TOLERANCE {
        return Finding::problem(
            Step::Token,
            "token_from_the_future",
            "signed more than 5 min in the future",
        )
        .with_next("check the clock of the machine that signs, and of this one");
    }
    let age = place.now.duration_since(claims.signed).unwrap_or_default();
    let detail = format!(
        "user {}, region {region}, signed {} s ago, valid for {} s",
        one_line(&claims.user),
        age.as_secs(),
        claims.lifetime.as_secs()
    );
    let Some(host) = &claims.host else {
        return Finding::ok(Step::Token, detail);
    };
    let is_same_host = host.eq_ignore_ascii_case(place.host.trim_end_matches('.'));
    if is_same_host && claims.port.is_none_or(|port| port == place.port) {
        return Finding::ok(Step::Token, detail);
    }
    Finding::note(
        Step::Token,
        "token_of_another_host",
        format!("{detail}; for host {}", one_line(host)),
    )
    .with_next("right for a tunnel or proxy alone; otherwise set the same host for both")
}

/// Returns the finding for the way of a token, before it is sent. Every server gets it in clear,
/// and pools send it over verified TLS alone. `None` if the way is right.
pub(super) fn unprotected_finding(mode: TlsMode) -> Option<Finding> {
    if matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull) {
        return None;
    }
    let finding = Finding::problem(
        Step::Token,
        "token_without_verified_tls",
        "the token was not sent: without verified TLS any server at this address could read it",
    );
    Some(
        finding.with_next(
            "set ssl_mode = \"verify-full\" and `ca_file`; for Redis, a URL with rediss://",
        ),
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    const HOST: &str = "orders.c1a2b3.eu-west-1.rds.amazonaws.com";

    fn token(user: &str, region: &str) -> String {
        format!(
            "{HOST}:5432/?Action=connect&DBUser={user}&X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIDEXAMPLE%2F20261130%2F{region}%2Frds-db%2Faws4_request\
             &X-Amz-Date=20261130T020000Z&X-Amz-Expires=900&X-Amz-Signature=kestrel"
        )
    }

    fn judge(token: &str, minutes: i64, region: Option<&str>) -> Finding {
        let signed = humantime::parse_rfc3339("2026-11-30T02:00:00Z").expect("a time");
        let by = Duration::from_secs(minutes.unsigned_abs() * 60);
        let now = if minutes < 0 {
            signed - by
        } else {
            signed + by
        };
        let place = Use {
            host: HOST,
            port: 5432,
            user: "app",
            region,
            now,
        };
        token_finding(Claims::parse(token).as_ref(), &place)
    }

    #[test]
    fn claims_are_read_without_the_signature() {
        let claims = Claims::parse(&token("app", "eu-west-1")).expect("a token");
        assert_eq!(
            (claims.host.as_deref(), claims.port),
            (Some(HOST), Some(5432))
        );
        assert_eq!(claims.region, "eu-west-1");
        assert_eq!(claims.lifetime, Duration::from_secs(900));
        assert!(!format!("{claims:?}").contains("kestrel"));
        for other in ["s3cret", "", "a b", "host/?Action=other"] {
            assert_eq!(Claims::parse(other), None, "{other}");
        }
    }

    #[test]
    fn the_token_of_a_cache_has_no_host_to_compare() {
        let token = token("app", "eu-west-1").replace("DBUser", "User");
        let claims = Claims::parse(&token).expect("a token");
        assert_eq!((claims.host, claims.user.as_str()), (None, "app"));
    }

    #[test]
    fn each_wrong_claim_has_its_cause() {
        let region = Some("eu-west-1");
        let cause = |token: &str, minutes| judge(token, minutes, region).cause;
        let right = token("app", "eu-west-1");
        assert_eq!(cause(&right, 1), None);
        assert_eq!(cause(&right, 16), Some("token_expired"));
        assert_eq!(cause(&right, -20), Some("token_from_the_future"));
        assert_eq!(
            cause(&token("app", "eu-central-1"), 1),
            Some("wrong_region")
        );
        assert_eq!(
            cause(&token("other", "eu-west-1"), 1),
            Some("token_of_another_user")
        );
        assert_eq!(cause("s3cret", 1), Some("not_an_iam_token"));
        let endless = right.replace("Expires=900", "Expires=18446744073709551615");
        assert_eq!(cause(&endless, 1), Some("invalid_token_lifetime"));
        assert_eq!(judge(&token("app", "eu-central-1"), 1, None).cause, None);
    }

    #[test]
    fn a_token_needs_a_verified_server() {
        for mode in [TlsMode::Disable, TlsMode::Prefer, TlsMode::Require] {
            let finding = unprotected_finding(mode).expect("a problem");
            assert_eq!(finding.cause, Some("token_without_verified_tls"));
            assert!(finding.is_problem());
        }
        assert_eq!(unprotected_finding(TlsMode::VerifyCa), None);
        assert_eq!(unprotected_finding(TlsMode::VerifyFull), None);
    }
}
