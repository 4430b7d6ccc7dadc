//! This machine's clock is behind the database's: when rejected tokens are signed again, and what
//! is logged.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use claviger::report::RotationTrigger;
use claviger::{Credentials, Lease};
use claviger_fixtures::Capture;
use claviger_rds_iam::RdsIam;
use common::{Chain, HOST, USER, fetch_again, first_lease, wall_time};
use parking_lot::Mutex;
use tokio::time::{Instant, advance};

const MINUTE: Duration = Duration::from_secs(60);

/// A wall clock that follows tokio's paused one, ten minutes behind; it can be set.
#[derive(Clone, Debug)]
struct Clock {
    started: (SystemTime, Instant),
    set_back: Arc<Mutex<Duration>>,
}

impl Clock {
    fn new() -> Self {
        Self {
            started: (wall_time() - 10 * MINUTE, Instant::now()),
            set_back: Arc::default(),
        }
    }

    /// Returns a provider that signs by this clock.
    fn provider(&self) -> RdsIam {
        self.provider_for(USER)
    }

    fn provider_for(&self, user: &str) -> RdsIam {
        let aws = Chain::key()
            .config(None)
            .into_builder()
            .time_source(self.clone())
            .build();
        RdsIam::new(&aws, HOST, 5432, user).expect("the arguments are valid")
    }
}

impl aws_types::sdk_config::TimeSource for Clock {
    fn now(&self) -> SystemTime {
        self.started.0 + self.started.1.elapsed() - *self.set_back.lock()
    }
}

/// Waits for `seconds`, rejects the lease, and returns what is then fetched.
async fn lease_after_rejection(
    provider: &RdsIam,
    current: &Lease<Credentials>,
    seconds: u64,
) -> Lease<Credentials> {
    advance(Duration::from_secs(seconds)).await;
    fetch_again(provider, RotationTrigger::Rejected, current).await
}

/// By the database's clock a token expires at an age of five minutes here, which still counts as
/// young.
#[tokio::test(start_paused = true)]
async fn a_young_token_is_signed_again_at_the_second_rejection_within_a_minute() {
    for seconds in [1, 7, 59] {
        let provider = Clock::new().provider();
        let current = first_lease(&provider).await;
        assert_eq!(
            lease_after_rejection(&provider, &current, 300)
                .await
                .revision(),
            current.revision(),
            "it may be transient"
        );
        assert_ne!(
            lease_after_rejection(&provider, &current, seconds)
                .await
                .revision(),
            current.revision(),
            "rejected again after {seconds} s"
        );
    }
    let provider = Clock::new().provider();
    let current = first_lease(&provider).await;
    for _ in 0..5 {
        assert_eq!(
            lease_after_rejection(&provider, &current, 61)
                .await
                .revision(),
            current.revision(),
            "more than a minute apart"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejected_young_token_is_signed_again_once_in_half_a_minute() {
    // PAM rejects everything for a while: not each attempt gets a new token.
    let provider = Clock::new().provider();
    let mut current = first_lease(&provider).await;
    let began = Instant::now();
    let mut signed = Vec::new();
    for _ in 0..60 {
        let next = lease_after_rejection(&provider, &current, 2).await;
        if next.revision() != current.revision() {
            signed.push(began.elapsed().as_secs());
        }
        current = next;
    }
    assert_eq!(signed, [4, 34, 64, 94]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_does_not_delay_the_signature() {
    let clock = Clock::new();
    let provider = clock.provider();
    let current = first_lease(&provider).await;
    lease_after_rejection(&provider, &current, 1).await;
    let current = lease_after_rejection(&provider, &current, 1).await;
    *clock.set_back.lock() = 60 * MINUTE;
    lease_after_rejection(&provider, &current, 30).await;
    assert_ne!(
        lease_after_rejection(&provider, &current, 1)
            .await
            .revision(),
        current.revision()
    );
}

/// A clock that is ten minutes behind for three hours.
#[tokio::test(start_paused = true)]
async fn the_clock_is_named_at_warn_once_an_hour_for_as_long_as_tokens_are_rejected() {
    let capture = Capture::everything();
    // Lines of other tests in this process are captured as well.
    let provider = Clock::new().provider_for("warned");
    let mut current = first_lease(&provider).await;
    for _ in 0..36 {
        current = lease_after_rejection(&provider, &current, 299).await;
        current = lease_after_rejection(&provider, &current, 1).await;
    }
    let text = capture.text();
    let warned = text.lines().filter(|line| {
        line.contains("WARN")
            && line.contains("check this machine's clock")
            && line.contains("warned")
    });
    assert_eq!(warned.count(), 3);
}
