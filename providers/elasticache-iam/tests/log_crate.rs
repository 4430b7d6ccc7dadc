//! A service that logs through the `log` crate and has no tracing subscriber. After a token was
//! signed it still logs its own lines, and no secret at any level.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use claviger_aws_fixtures::{Chain, first_lease, session, token};
use claviger_elasticache_iam::{CacheKind, ElastiCacheIam};
use claviger_fixtures::LogRecorder;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_neither_silences_the_process_nor_shows_a_secret() {
    let log = LogRecorder::everything();
    let chain = Chain::scripted(|| {
        Ok(session(
            "AKIAIOSFODNN7EXAMPLE",
            "CANARY-session-token",
            None,
        ))
    });
    let aws = chain.config(Some("eu-west-1"));
    let provider = ElastiCacheIam::new(&aws, CacheKind::Serverless, "orders", "orders-app")
        .expect("the settings are valid");
    let lease = first_lease(&provider).await;
    assert!(
        token(&lease).contains("CANARY-session-token"),
        "the hazard: the token contains the session token"
    );
    let signature = token(&lease).rsplit('=').next().expect("a signature");

    log.assert_not_silenced();
    let shown = log.lines_containing(&["CANARY", "EXAMPLEKEY", signature]);
    assert!(shown.is_empty(), "{shown:#?}");
}
