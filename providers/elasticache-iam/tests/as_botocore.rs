//! needs: moto
//!
//! Tokens are identical to those of botocore's signer, to the byte.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials as AwsCredentials;
use claviger_aws_fixtures::{Python, config_signed_by, first_lease, token};
use claviger_elasticache_iam::{CacheKind, ElastiCacheIam};
use claviger_servers::Moto;
use serde_json::json;

/// Signer, time and cache of a token.
#[derive(Clone, Copy, Debug)]
struct Case<'c> {
    kind: CacheKind,
    name: &'c str,
    user: &'c str,
    region: &'c str,
    /// Seconds since 1970.
    at: u64,
    key: &'c str,
    session: Option<&'c str>,
}

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

const KINDS: [CacheKind; 3] = [
    CacheKind::Serverless,
    CacheKind::NodeBased,
    CacheKind::MemoryDb,
];

const USERS: [&str; 22] = [
    "orders-app",
    "first.last+x@corp",
    "with a space",
    " spaces around ",
    "größe",
    "名前",
    "🔑",
    "100%",
    "%2B",
    "a&User=root",
    "a&ResourceType=ServerlessCache",
    "a=b",
    "a;b?c#d",
    "a/b:c",
    "[a]{b}<c>",
    "~tilde~",
    "*'()!,$",
    "\"quoted\" \\ ^`|",
    "UPPER",
    "tab\tand\r\nline",
    "+",
    "-",
];

fn usual_case() -> Case<'static> {
    Case {
        kind: CacheKind::NodeBased,
        name: "orders-cache-01",
        user: "orders-app",
        region: "eu-west-1",
        at: 1_795_603_199,
        key: "AKIAIOSFODNN7EXAMPLE",
        session: None,
    }
}

/// Returns the token of botocore's signer for a URL with this scheme.
fn their_token(python: &mut Python, scheme: &str, case: Case<'_>) -> String {
    let (service, serverless) = match case.kind {
        CacheKind::Serverless => ("elasticache", true),
        CacheKind::NodeBased => ("elasticache", false),
        _ => ("memorydb", false),
    };
    let signed = python.token(&json!({
        "scheme": scheme,
        "service": service,
        "serverless": serverless,
        "name": case.name.to_lowercase(),
        "user": case.user,
        "region": case.region,
        "at": case.at,
        "key": case.key,
        "secret": SECRET,
        "session": case.session,
    }));
    signed.unwrap_or_else(|error| format!("botocore fails for {case:?}: {error}"))
}

async fn our_token(case: Case<'_>) -> String {
    let session = case.session.map(str::to_owned);
    let credentials = AwsCredentials::new(case.key, SECRET, session, None, "test");
    // Fractions of a second are not signed.
    let now = UNIX_EPOCH + Duration::from_secs(case.at) + Duration::from_millis(999);
    let aws = config_signed_by(credentials, case.region, now);
    let provider =
        ElastiCacheIam::new(&aws, case.kind, case.name, case.user).expect("they are valid");
    token(&first_lease(&provider).await).to_owned()
}

fn start_python(moto: &Moto) -> Python {
    Python::start(moto.python(), include_str!("botocore/tokens.py"))
}

#[tokio::test]
async fn every_user_of_every_kind_of_cache_has_botocores_token() {
    let moto = Moto::start().expect("moto starts");
    let mut python = start_python(&moto);
    // A session token as STS issues it: a thousand bytes of base64.
    let session = format!(
        "IQoJb3JpZ2luX2VjEPT//////////wEaCXVzLWVhc3QtMSJH{}+/==",
        "MEUCIQDab0/+".repeat(80)
    );
    let mut compared = 0;
    for kind in KINDS {
        for user in USERS {
            for session in [None, Some(session.as_str())] {
                let case = Case {
                    kind,
                    user,
                    session,
                    ..usual_case()
                };
                let ours = our_token(case).await;
                // AWS's examples differ in the scheme, which is not signed.
                for scheme in ["http", "https"] {
                    let theirs = their_token(&mut python, scheme, case);
                    assert_eq!(ours, theirs, "{kind:?} {user:?}");
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, KINDS.len() * USERS.len() * 4);
}

#[tokio::test]
async fn every_name_region_time_and_identity_has_botocores_token() {
    let moto = Moto::start().expect("moto starts");
    let mut python = start_python(&moto);
    let base = usual_case();
    let names = ["a", "Orders-Cache", "ORDERS1"].map(|name| Case { name, ..base });
    let regions =
        ["us-gov-west-1", "cn-north-1", "ap-southeast-4"].map(|region| Case { region, ..base });
    // 1970, a leap day, the last second of a year, a new year.
    let times = [0, 1_709_164_800, 1_767_225_599, 4_102_444_800].map(|at| Case { at, ..base });
    let sessions = ["", "a b~c", "+/=", "ключ", "%2F", "&X-Amz-Expires=1"].map(|session| Case {
        session: Some(session),
        ..base
    });
    let keys = ["AKIA~*'", "A/B", "ASIA0"].map(|key| Case { key, ..base });
    for case in [
        &names[..],
        &regions[..],
        &times[..],
        &sessions[..],
        &keys[..],
    ]
    .concat()
    {
        for kind in KINDS {
            let case = Case { kind, ..case };
            let theirs = their_token(&mut python, "http", case);
            assert_eq!(our_token(case).await, theirs, "{case:?}");
        }
    }
}

/// AWS rejects a token that was made for another kind of cache.
#[tokio::test]
async fn tokens_of_the_three_kinds_differ_in_service_resource_type_and_signature() {
    let mut signatures = Vec::new();
    for (kind, service, serverless) in [
        (CacheKind::Serverless, "elasticache", true),
        (CacheKind::NodeBased, "elasticache", false),
        (CacheKind::MemoryDb, "memorydb", false),
    ] {
        let token = our_token(Case {
            kind,
            ..usual_case()
        })
        .await;
        assert!(
            token.starts_with("orders-cache-01/?Action=connect&User=orders-app&"),
            "{token}"
        );
        assert!(
            token.contains(&format!("%2Feu-west-1%2F{service}%2Faws4_request&")),
            "{token}"
        );
        assert!(token.contains("&X-Amz-Expires=900&"), "{token}");
        assert_eq!(
            token.contains("&ResourceType=ServerlessCache&"),
            serverless,
            "{token}"
        );
        signatures.extend(token.rsplit('=').next().map(str::to_owned));
    }
    signatures.dedup();
    assert_eq!(signatures.len(), 3);
}
