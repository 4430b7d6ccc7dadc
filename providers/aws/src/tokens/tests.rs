#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use aws_credential_types::provider::future::ProvideCredentials as Provided;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_types::sdk_config::TimeSource;
use claviger::testing::MovedClock;

use super::*;

const SLOW: Duration = Duration::from_secs(10);

/// The time source of a configuration that was loaded.
#[derive(Debug)]
struct MachineClock;

impl TimeSource for MachineClock {
    #[expect(clippy::disallowed_methods, reason = "as the SDK's own")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

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
async fn a_token_is_dated_by_the_supervisors_clock_when_it_is_signed() {
    let without_a_time_source = SdkConfig::builder()
        .credentials_provider(SharedCredentialsProvider::new(SlowChain))
        .build();
    let as_loaded = without_a_time_source
        .clone()
        .into_builder()
        .time_source(MachineClock)
        .build();
    for aws in [without_a_time_source, as_loaded] {
        let request = ConnectRequest {
            service: "rds-db",
            region: "eu-west-1".to_owned(),
            host: "db.internal:5432".to_owned(),
            header: "db.internal:5432".to_owned(),
            user: ("DBUser", "orders_app".to_owned()),
            more: None,
        };
        let provider = Tokens::new(&aws, request, MAX_LIFETIME, OldConnections::Keep).unwrap();
        let clock = MovedClock::default();
        clock.jump(Duration::from_secs(86_400));
        let request = FetchRequest::first().with_clock(clock.clock());
        let expected = request.started.wall() + SLOW;
        let lease = provider
            .fetch(request)
            .await
            .unwrap()
            .into_lease(None)
            .unwrap();
        let dates = [expected, expected + Duration::from_secs(1)].map(|at| {
            let second = start_of_second(at);
            let date = humantime::format_rfc3339_seconds(second).to_string();
            format!("X-Amz-Date={}", date.replace(['-', ':'], ""))
        });
        let token = lease.secret().expose_password();
        assert!(dates.iter().any(|date| token.contains(date)), "{dates:?}");
    }
}
