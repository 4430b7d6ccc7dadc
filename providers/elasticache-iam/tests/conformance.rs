//! The provider passes the conformance kit.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use claviger_aws_fixtures::assert_conforms;
use claviger_elasticache_iam::{CacheKind, ElastiCacheIam};

#[tokio::test]
async fn the_provider_conforms() {
    assert_conforms(|aws| {
        ElastiCacheIam::new(aws, CacheKind::Serverless, "orders", "app")
            .expect("the arguments are valid")
    })
    .await;
}
