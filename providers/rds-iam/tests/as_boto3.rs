//! needs: moto
//!
//! Tokens are identical to boto3's. Where boto3 or the SDK is wrong, the token is right, or the
//! fetch fails.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "boto3/mod.rs"]
mod boto3;

use std::time::{Duration, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_credential_types::Credentials as AwsCredentials;
use aws_sdk_rds::auth_token::{AuthTokenGenerator, Config};
use boto3::{Boto3, Case};
use claviger::error::ProviderError;
use claviger::provider::FetchRequest;
use claviger_aws_fixtures::config_signed_by;
use claviger_rds_iam::RdsIam;
use claviger_servers::Moto;
use claviger_testkit::FetchLease;

fn config(case: Case<'_>) -> SdkConfig {
    let session = case.session.map(str::to_owned);
    // Fractions of a second are not signed.
    let now = UNIX_EPOCH + Duration::from_secs(case.at) + Duration::from_millis(999);
    let credentials = AwsCredentials::new(case.key, case.secret, session, None, "test");
    config_signed_by(credentials, case.region, now)
}

async fn our_token(case: Case<'_>) -> Result<String, ProviderError> {
    let provider = RdsIam::new(&config(case), case.host, case.port, case.user)?;
    let lease = provider.fetch_lease(FetchRequest::first()).await?;
    Ok(lease.secret().expose_password().to_owned())
}

/// Returns the token that the SDK's own function signs.
async fn sdk_token(case: Case<'_>) -> String {
    let generator_config = Config::builder()
        .hostname(case.host)
        .port(u64::from(case.port))
        .username(case.user);
    let generator = AuthTokenGenerator::new(generator_config.build().expect("it is complete"));
    generator
        .auth_token(&config(case))
        .await
        .expect("it signs")
        .as_str()
        .to_owned()
}

/// Time of signature, in seconds since 1970.
const SIGNED_AT: u64 = 1_795_603_199;

fn case<'c>(host: &'c str, region: &'c str, user: &'c str) -> Case<'c> {
    Case {
        host,
        port: 5432,
        user,
        region,
        at: SIGNED_AT,
        key: "AKIAIOSFODNN7EXAMPLE",
        secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        session: None,
    }
}

/// Returns a case for which boto3 and the SDK sign the same token.
fn usual_case() -> Case<'static> {
    case(
        "orders.c1a2b3.eu-west-1.rds.amazonaws.com",
        "eu-west-1",
        "orders_app",
    )
}

const USERS: [&str; 31] = [
    "orders_app",
    "first.last+x@corp",
    "with a space",
    " spaces around ",
    "größe",
    "名前",
    "🔑",
    "100%",
    "%2B",
    "a&DBUser=root",
    "a=b",
    "a;b",
    "a?b#c",
    "a/b",
    "a:b",
    "[a]{b}",
    "~tilde~",
    "*'()!,$",
    "\"quoted\"",
    "back\\slash",
    "a|b^c`d",
    "<a>",
    "UPPER",
    "e\u{301}",
    "\u{fffd}",
    "\u{a0}",
    "tab\tand\r\nline",
    "-",
    ".",
    "+",
    "rds_iam",
];

const ENDPOINTS: [(&str, &str); 18] = [
    ("orders.c1a2b3.eu-west-1.rds.amazonaws.com", "eu-west-1"),
    (
        "orders.cluster-c1a2b3.us-east-1.rds.amazonaws.com",
        "us-east-1",
    ),
    (
        "orders.proxy-c1a2b3.ap-southeast-4.rds.amazonaws.com",
        "ap-southeast-4",
    ),
    (
        "orders.c1a2b3.us-gov-west-1.rds.amazonaws.com",
        "us-gov-west-1",
    ),
    (
        "orders.c1a2b3.rds.cn-north-1.amazonaws.com.cn",
        "cn-north-1",
    ),
    (
        "orders.c1a2b3.cn-northwest-1.rds.amazonaws.com.cn",
        "cn-northwest-1",
    ),
    ("ORDERS.C1A2B3.EU-WEST-1.RDS.AMAZONAWS.COM", "eu-west-1"),
    ("Orders.Example.COM", "eu-central-1"),
    ("orders.example.com.", "eu-central-1"),
    ("localhost", "us-east-1"),
    ("db", "us-west-2"),
    ("db_1.internal", "us-west-2"),
    ("-db-.internal", "us-west-2"),
    ("xn--bcher-kva.example", "eu-central-1"),
    ("10.0.0.7", "sa-east-1"),
    ("[::1]", "us-east-1"),
    ("[2001:DB8:0:0::A]", "us-east-1"),
    ("[::ffff:10.0.0.7]", "us-east-1"),
];

#[tokio::test]
async fn every_user_on_every_host_has_boto3s_token() {
    let moto = Moto::start().expect("moto starts");
    let mut boto3 = Boto3::start(moto.python());
    // A session token as STS issues it: a thousand bytes of base64.
    let session = format!(
        "IQoJb3JpZ2luX2VjEPT//////////wEaCXVzLWVhc3QtMSJH{}+/==",
        "MEUCIQDab0/+".repeat(80)
    );
    let mut compared = 0;
    for (host, region) in ENDPOINTS {
        for user in USERS {
            for session in [None, Some(session.as_str())] {
                let case = Case {
                    session,
                    ..case(host, region, user)
                };
                let theirs = boto3
                    .token(case)
                    .unwrap_or_else(|error| format!("boto3 fails for {case:?}: {error}"));
                assert_eq!(
                    our_token(case).await.expect("it signs"),
                    theirs,
                    "{user:?} at {host:?}"
                );
                compared += 1;
            }
        }
    }
    assert_eq!(compared, USERS.len() * ENDPOINTS.len() * 2);
}

#[tokio::test]
async fn every_port_time_and_identity_has_boto3s_token() {
    let moto = Moto::start().expect("moto starts");
    let mut boto3 = Boto3::start(moto.python());
    let base = usual_case();
    let ports = [1, 80, 443, 3306, 5432, 65535].map(|port| Case { port, ..base });
    // 1970, a leap day, the last second of a year, a new year.
    let times = [0, 1_709_164_800, 1_767_225_599, 4_102_444_800].map(|at| Case { at, ..base });
    let sessions = ["", "a b~c", "+/=", "ключ", "%2F", "&X-Amz-Expires=1"].map(|session| Case {
        session: Some(session),
        ..base
    });
    let keys = ["AKIA~*'", "A/B", "ASIA0"].map(|key| Case { key, ..base });
    for case in [&ports[..], &times[..], &sessions[..], &keys[..]].concat() {
        let theirs = boto3.token(case).expect("boto3 signs");
        assert_eq!(our_token(case).await.expect("it signs"), theirs, "{case:?}");
    }
}

#[tokio::test]
async fn tokens_are_right_where_the_sdk_is_wrong() {
    let moto = Moto::start().expect("moto starts");
    let mut boto3 = Boto3::start(moto.python());
    let base = usual_case();
    assert_eq!(
        sdk_token(base).await,
        boto3.token(base).expect("boto3 signs"),
        "they are equal in the usual case"
    );
    for case in [
        Case {
            user: "first.last+x@corp",
            ..base
        },
        Case {
            session: Some("token"),
            ..base
        },
        Case { port: 443, ..base },
        case("Orders.Example.COM", "eu-west-1", "orders_app"),
    ] {
        let theirs = boto3.token(case).expect("boto3 signs");
        assert_ne!(sdk_token(case).await, theirs, "the hazard: {case:?}");
        assert_eq!(our_token(case).await.expect("it signs"), theirs);
    }
}

/// boto3 does not recognize an IPv6 address without brackets. This provider does.
#[tokio::test]
async fn tokens_are_right_or_an_error_where_boto3_is_wrong() {
    let moto = Moto::start().expect("moto starts");
    let mut boto3 = Boto3::start(moto.python());
    for (bare, bracketed) in [("::1", "[::1]"), ("2001:DB8::A", "[2001:DB8::A]")] {
        let ours = our_token(case(bare, "eu-west-1", "orders_app"))
            .await
            .expect("it signs");
        let case = |host| case(host, "eu-west-1", "orders_app");
        assert_ne!(
            boto3.token(case(bare)).ok().as_ref(),
            Some(&ours),
            "the hazard"
        );
        assert_eq!(boto3.token(case(bracketed)), Ok(ours));
    }
    for host in [
        "",
        " ",
        "https://db",
        "db/x",
        "db:5432",
        "me@db",
        "db?x",
        "db#x",
        "[::1",
        "fe80::1%eth0",
        "bücher.example",
        "db..x",
        "a b",
        "1.2.3.4.5",
    ] {
        let case = case(host, "eu-west-1", "orders_app");
        let error = our_token(case).await.expect_err(host);
        assert!(
            error.to_string().contains("\"host\""),
            "{error}; boto3: {:?}",
            boto3.token(case)
        );
    }
}
