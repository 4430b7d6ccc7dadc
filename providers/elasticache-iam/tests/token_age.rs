//! Hours of tokens on paused time: a token's age when a connection opens, and the number of
//! signatures.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_config::{Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use claviger::Handle;
use claviger::lease::Timestamp;
use claviger_aws_fixtures::{SlowChain, parameter, signed_at};
use claviger_elasticache_iam::{CacheKind, ElastiCacheIam};
use claviger_testkit::{Lab, ScriptedPools};
use tokio::time::{Instant, sleep};

const MINUTE: Duration = Duration::from_secs(60);

/// A pool on tokens, without a server.
struct Setup {
    lab: Lab,
    server: ScriptedPools,
    pool: Handle<ScriptedPools>,
    started: (SystemTime, Instant),
}

impl Setup {
    async fn new(kind: CacheKind, delay: Duration, session_lifetime: Option<Duration>) -> Self {
        let lab = Lab::new();
        // As Redis's pools.
        let server = ScriptedPools::new(10).with_reauthentication();
        let started = (Timestamp::now().wall(), Instant::now());
        // Without a clock of its own: tokens are signed by the supervisor's paused clock.
        let aws = SdkConfig::builder()
            .region(Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(SlowChain {
                delay,
                session_lifetime,
                started,
            }))
            .build();
        let provider = ElastiCacheIam::new(&aws, kind, "orders", "orders-app")
            .expect("the arguments are valid");
        let credentials = lab
            .supervisor
            .add_provider("login", provider)
            .await
            .expect("a token is signed");
        let pool = lab
            .supervisor
            .add_pool("orders", &credentials, server.clone())
            .await
            .expect("it is verified");
        Self {
            lab,
            server,
            pool,
            started,
        }
    }

    fn now(&self) -> SystemTime {
        self.started.0 + self.started.1.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn no_connection_opens_with_a_token_older_than_14_minutes() {
    for (kind, delay) in [
        (CacheKind::Serverless, Duration::ZERO),
        (CacheKind::NodeBased, Duration::from_secs(19)),
        (CacheKind::MemoryDb, Duration::from_secs(1)),
    ] {
        let setup = Setup::new(kind, delay, None).await;
        let mut ages = BTreeMap::new();
        for _ in 0..130 * 60 {
            let token = setup.pool.current().password();
            let signed = signed_at(&token);
            let age = setup.now().duration_since(signed).unwrap_or_default();
            ages.insert(signed, age);
            sleep(Duration::from_secs(1)).await;
        }
        assert!(ages.values().all(|age| *age <= 14 * MINUTE), "{ages:?}");
        assert!(
            (10..=11).contains(&ages.len()),
            "one signature in 13 minutes, though the chain is called each minute: {ages:?}"
        );
        let oldest = ages.values().max().expect("there are some");
        assert!(
            *oldest >= 12 * MINUTE,
            "the hazard: tokens grow old, {oldest:?}"
        );
        assert!(
            (10..=11).contains(&setup.server.verifications().len()),
            "each is verified once"
        );
        setup.lab.supervisor.shutdown(MINUTE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_connection_opens_with_a_token_whose_session_has_expired() {
    let lifetime = 9 * MINUTE;
    let setup = Setup::new(
        CacheKind::Serverless,
        Duration::from_secs(1),
        Some(lifetime),
    )
    .await;
    let mut shortest = lifetime;
    for _ in 0..60 * 60 {
        let status = setup.pool.status().expect("it is supervised");
        shortest = shortest.min(status.remaining.expect("it ends"));
        let token = setup.pool.current().password();
        let number: u32 = parameter(&token, "X-Amz-Security-Token")
            .and_then(|token| token.strip_prefix("token-")?.parse().ok())
            .expect("numbered");
        let end = setup.started.0 + (lifetime - Duration::from_secs(10)) * number + lifetime;
        assert!(setup.now() < end, "session {number} has expired");
        sleep(Duration::from_secs(1)).await;
    }
    assert!(
        shortest > Duration::ZERO && shortest < MINUTE,
        "the hazard: sessions were near their end, {shortest:?}"
    );
}
