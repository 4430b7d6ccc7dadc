//! Scenario: a token cache keeps 15-minute tokens and refreshes only after an authentication error.
//! A connection opened at minute 14 uses a 14-minute-old token, and a minute later logins fail.
//! First without Claviger, then with it, on paused time.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::Handle;
use claviger::lease::OldConnections;
use claviger_fixtures::Scripted;
use claviger_testkit::{ScriptedPools, ScriptedProvider};
use tokio::time::{Instant, sleep_until};

const LIFETIME: Duration = Duration::from_secs(15 * 60);
const BUFFER: Duration = Duration::from_secs(60);

/// The error of RDS for an expired token.
const REJECTION: &str = "PAM authentication failed";

/// Issues tokens and accepts logins with unexpired ones.
struct Aws {
    began: Instant,
    issued: Vec<Instant>,
}

impl Aws {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            issued: Vec::new(),
        }
    }

    fn issue(&mut self) -> usize {
        self.issued.push(Instant::now());
        self.issued.len()
    }

    fn log_in(&self, token: usize) -> Result<Duration, &'static str> {
        let age = self.issued[token - 1].elapsed();
        if age < LIFETIME {
            Ok(age)
        } else {
            Err(REJECTION)
        }
    }

    async fn sleep_until(&self, minutes: u64, seconds: u64) {
        sleep_until(self.began + Duration::from_secs(minutes * 60 + seconds)).await;
    }
}

/// The cache of the scenario: it fetches once, and again only after an authentication error.
#[derive(Default)]
struct Cache {
    cached: Option<usize>,
}

impl Cache {
    /// Opens a connection as a pool does. Returns the token's age, or the error that a caller sees.
    fn connect(&mut self, aws: &mut Aws) -> Result<Duration, &'static str> {
        let token = *self.cached.get_or_insert_with(|| aws.issue());
        aws.log_in(token).inspect_err(|_| self.cached = None)
    }
}

#[tokio::test(start_paused = true)]
async fn without_claviger_a_connection_opened_late_fails() {
    let (mut aws, mut provider) = (Aws::new(), Cache::default());
    let mut seen = Vec::new();
    // The pool opens a connection at these times.
    for (minutes, seconds) in [
        (0, 0),
        (0, 30),
        (13, 0),
        (14, 0),
        (14, 59),
        (15, 0),
        (15, 1),
        (29, 0),
        (30, 1),
    ] {
        aws.sleep_until(minutes, seconds).await;
        seen.push(provider.connect(&mut aws).map(|age| age.as_secs() / 60));
    }
    // At 14:00 a connection is opened with a token of fourteen minutes. A minute later a caller
    // sees the error, and again every fifteen minutes.
    assert_eq!(
        seen,
        [
            Ok(0),
            Ok(0),
            Ok(13),
            Ok(14),
            Ok(14),
            Err(REJECTION),
            Ok(0),
            Ok(13),
            Err(REJECTION)
        ]
    );
}

/// Returns the token that a new connection would log in with.
fn token(db: &Handle<ScriptedPools>) -> String {
    db.current().password()
}

/// Registers a provider of such tokens, renewed at minute 14, and a pool of ten connections.
async fn with_claviger() -> Scripted {
    let provider = ScriptedProvider::new()
        .with_lifetime(LIFETIME)
        .with_refresh_after(LIFETIME - BUFFER)
        .with_old_connections(OldConnections::Keep)
        .with_new_credential_per_fetch();
    Scripted::with_database(provider, ScriptedPools::new(10)).await
}

#[tokio::test(start_paused = true)]
async fn with_claviger_no_login_uses_a_token_older_than_fourteen_minutes() {
    let clock = Aws::new();
    let Scripted {
        lab: _lab,
        provider,
        database,
        pool: db,
        ..
    } = with_claviger().await;

    let mut seen = Vec::new();
    for (minutes, seconds) in [(0, 0), (0, 30), (13, 0), (14, 0), (14, 5), (28, 0)] {
        clock.sleep_until(minutes, seconds).await;
        // The renewal is due at exactly 14:00 and takes some milliseconds.
        tokio::time::sleep(Duration::from_millis(10)).await;
        seen.push(token(&db));
    }
    let expected = [
        "password-1",
        "password-1",
        "password-1",
        "password-2",
        "password-2",
        "password-3",
    ];
    assert_eq!(seen, expected);
    assert_eq!(
        database.opened().len(),
        1,
        "tokens are updated in place: connections stay"
    );

    // One connection per second for an hour: no token is older than 14 minutes, and about five
    // fetches suffice.
    let mut oldest = Duration::ZERO;
    for second in 28 * 60 + 1..3_600 {
        clock.sleep_until(0, second).await;
        let version: usize = token(&db)
            .trim_start_matches("password-")
            .parse()
            .expect("a number");
        oldest = oldest.max(provider.calls()[version - 1].at.elapsed());
    }
    assert!(
        oldest <= LIFETIME - BUFFER + Duration::from_secs(1),
        "a connection was opened with a token of {oldest:?}"
    );
    assert!(
        oldest > Duration::from_secs(13 * 60),
        "the hazard: some tokens were old"
    );
    assert_eq!(provider.calls().len(), 5);
    assert!(
        database
            .verifications()
            .iter()
            .all(|(_, accepted)| *accepted)
    );
}

#[tokio::test(start_paused = true)]
async fn with_claviger_ten_pools_share_one_refresh() {
    let Scripted {
        lab,
        provider,
        credentials,
        pool,
        ..
    } = with_claviger().await;
    let mut pools = vec![pool];
    for number in 1..10 {
        pools.push(
            lab.add_pool(
                &format!("pool-{number}"),
                &credentials,
                ScriptedPools::new(10),
            )
            .await,
        );
    }
    tokio::time::sleep(LIFETIME - BUFFER + Duration::from_secs(1)).await;
    assert!(
        pools
            .iter()
            .all(|pool| pool.generation() == 2 && token(pool) == "password-2")
    );
    assert_eq!(provider.calls().len(), 2, "ten pools, one refresh");
}
