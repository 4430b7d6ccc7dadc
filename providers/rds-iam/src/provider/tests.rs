#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use aws_credential_types::provider::future::ProvideCredentials as Provided;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_types::region::Region;
use claviger::testing::MovedClock;

use super::*;

const SLOW: Duration = Duration::from_secs(10);

/// A chain that takes [`SLOW`] to return.
#[derive(Debug)]
struct SlowChain;

impl ProvideCredentials for SlowChain {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        Provided::new(async {
            tokio::time::sleep(SLOW).await;
            Ok(AwsCredentials::new("AKIA", "secret", None, None, "test"))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_time_source_a_token_is_dated_by_the_supervisors_clock_when_it_is_signed() {
    let aws = SdkConfig::builder()
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(SlowChain))
        .build();
    let provider = RdsIam::new(&aws, "db.internal", 5432, "orders_app").unwrap();
    let clock = MovedClock::default();
    clock.jump(Duration::from_secs(86_400));
    let request = FetchRequest::first().with_clock(clock.clock());
    let signed_at = token::start_of_second(request.started.wall() + SLOW);
    let lease = provider
        .fetch(request)
        .await
        .unwrap()
        .into_lease(None)
        .unwrap();
    let date = humantime::format_rfc3339_seconds(signed_at)
        .to_string()
        .replace(['-', ':'], "");
    let token = lease.secret().expose_password();
    assert!(token.contains(&format!("X-Amz-Date={date}")), "{date}");
}
