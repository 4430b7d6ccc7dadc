//! The provider passes the conformance kit.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use claviger_aws_fixtures::assert_conforms;
use claviger_rds_iam::RdsIam;

#[tokio::test]
async fn the_provider_conforms() {
    let host = "orders.c1a2b3.eu-west-1.rds.amazonaws.com";
    assert_conforms(|aws| RdsIam::new(aws, host, 5432, "app").expect("the arguments are valid"))
        .await;
}
