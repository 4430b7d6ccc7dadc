//! Hours of tokens on paused time: a token's age when a connection opens, and the number of
//! signatures.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::provider::SharedCredentialsProvider;
use claviger::Handle;
use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::lease::Timestamp;
use claviger_aws_fixtures::SlowChain;
use claviger_rds_iam::RdsIam;
use claviger_testkit::{Lab, ScriptedPools};
use common::{HOST, USER, parameter, signed_at};
use tokio::time::{Instant, sleep};

const MINUTE: Duration = Duration::from_secs(60);

/// A pool on tokens, without a database.
struct Setup {
    lab: Lab,
    database: ScriptedPools,
    pool: Handle<ScriptedPools>,
    started: (SystemTime, Instant),
}

impl Setup {
    async fn new(delay: Duration, session_lifetime: Option<Duration>) -> Self {
        let (lab, database) = (Lab::new(), ScriptedPools::new(10));
        let started = (Timestamp::now().wall(), Instant::now());
        // Without a clock of its own: tokens are signed by the supervisor's paused clock.
        let aws = SdkConfig::builder()
            .credentials_provider(SharedCredentialsProvider::new(SlowChain {
                delay,
                session_lifetime,
                started,
            }))
            .build();
        let provider = RdsIam::new(&aws, HOST, 5432, USER).expect("the arguments are valid");
        let credentials = lab
            .supervisor
            .add_provider("login", provider)
            .await
            .expect("a token is signed");
        let pool = lab
            .supervisor
            .add_pool("orders", &credentials, database.clone())
            .await
            .expect("it is verified");
        Self {
            lab,
            database,
            pool,
            started,
        }
    }

    fn now(&self) -> SystemTime {
        self.started.0 + self.started.1.elapsed()
    }

    /// Reads the token that new connections would get, each second. Returns the last age of each
    /// token, by its date.
    async fn watch(
        &self,
        span: Duration,
        mut each_second: impl FnMut(u64),
    ) -> BTreeMap<String, Duration> {
        let mut last = BTreeMap::new();
        for second in 0..span.as_secs() {
            let token = self.pool.current().password();
            let date = parameter(&token, "X-Amz-Date")
                .expect("it has a date")
                .to_owned();
            let signed = signed_at(&token);
            last.insert(date, self.now().duration_since(signed).unwrap_or_default());
            each_second(second);
            sleep(Duration::from_secs(1)).await;
        }
        last
    }
}

#[tokio::test(start_paused = true)]
async fn no_connection_opens_with_a_token_older_than_14_minutes() {
    for delay in [Duration::ZERO, Duration::from_secs(19)] {
        let setup = Setup::new(delay, None).await;
        let ages = setup.watch(130 * MINUTE, |_| {}).await;
        assert!(ages.values().all(|age| *age <= 14 * MINUTE), "{ages:?}");
        assert!(
            (10..=11).contains(&ages.len()),
            "one signature in 13 minutes, though it is polled each minute: {ages:?}"
        );
        let oldest = ages.values().max().expect("there are some");
        assert!(
            *oldest >= 12 * MINUTE,
            "the hazard: tokens grow old, {oldest:?}"
        );
        assert!(
            (10..=11).contains(&setup.database.verifications().len()),
            "each is verified once"
        );
        setup.lab.supervisor.shutdown(MINUTE).await;
    }
}

/// Rejects the token in the seconds that `at` selects. Returns the last age of each token, and how
/// many rejections there were.
async fn watch_with_rejections(
    at: impl Fn(u64) -> bool,
    span: Duration,
) -> (BTreeMap<String, Duration>, usize) {
    let setup = Setup::new(Duration::ZERO, None).await;
    let mut rejections = 0;
    let ages = setup
        .watch(span, |second| {
            if at(second) {
                let rejection =
                    ConnectError::new(ConnectErrorKind::Rejected, "PAM authentication failed")
                        .with_code("28000");
                rejections += usize::from(setup.pool.rejected(setup.pool.generation(), &rejection));
            }
        })
        .await;
    (ages, rejections)
}

/// The rejection at 100 s causes a signature. The one at 115 s is too soon for another.
#[tokio::test(start_paused = true)]
async fn a_rejection_does_not_delay_the_next_signature() {
    let (ages, rejections) =
        watch_with_rejections(|second| second == 100 || second == 115, 20 * MINUTE).await;
    assert_eq!((rejections, ages.len()), (2, 3), "{ages:?}");
    let next_signature = 13 * MINUTE + Duration::from_secs(2);
    assert!(ages.values().all(|age| *age <= next_signature), "{ages:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_rejected_repeatedly_is_signed_again_after_half_its_lifetime() {
    let (ages, rejections) = watch_with_rejections(
        |second| second >= 90 && (second - 90).is_multiple_of(95),
        60 * MINUTE,
    )
    .await;
    assert!(rejections > 30, "the hazard: {rejections} rejections");
    assert!(ages.len() >= 8 && ages.len() <= 1 + rejections, "{ages:?}");
    assert!(
        ages.values()
            .all(|age| *age <= 15 * MINUTE / 2 + Duration::from_secs(96)),
        "{ages:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn no_connection_opens_with_a_token_whose_session_has_expired() {
    let lifetime = 9 * MINUTE;
    let setup = Setup::new(Duration::from_secs(1), Some(lifetime)).await;
    let mut shortest = lifetime;
    setup
        .watch(60 * MINUTE, |_| {
            let status = setup.pool.status().expect("it is supervised");
            shortest = shortest.min(status.remaining.expect("it ends"));
            let token = setup.pool.current().password();
            let number: u32 = parameter(&token, "X-Amz-Security-Token")
                .and_then(|token| token.strip_prefix("token-")?.parse().ok())
                .expect("numbered");
            let end = setup.started.0 + (lifetime - Duration::from_secs(10)) * number + lifetime;
            assert!(setup.now() < end, "session {number} has expired");
        })
        .await;
    assert!(
        shortest > Duration::ZERO && shortest < MINUTE,
        "the hazard: sessions were near their end, {shortest:?}"
    );
}
