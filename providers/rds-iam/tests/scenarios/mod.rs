//! Scenarios that run on every kind of server.

#![expect(clippy::expect_used, reason = "a failing helper fails the test")]

pub(crate) mod server;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use claviger::{Handle, Supervisor};
use claviger_fixtures::{Callers, eventually, eventually_within, short_lived};
use claviger_rds_iam::RdsIam;
use claviger_servers::TokenCheck;
use sqlx::Connection;
use sqlx::pool::PoolOptions;

use crate::common::{
    self, Chain, HOST, USER, first_lease, provider_with_lifetime, session, token, wall_time,
};
use server::{TokenServer, signed_at, start_server};

/// Time limit of every wait here.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns options of a pool that reconnects often and whose callers wait up to [`PATIENCE`].
pub(crate) fn reconnecting_options<S: TokenServer>(max: u32) -> PoolOptions<S::Db> {
    short_lived(
        PoolOptions::new()
            .max_connections(max)
            .acquire_timeout(PATIENCE),
        Duration::from_millis(250),
    )
}

/// Starts a supervisor with this provider as `login`, and a pool `orders` with these options on it.
async fn serve<S: TokenServer>(
    server: &S,
    provider: RdsIam,
    options: PoolOptions<S::Db>,
) -> (Supervisor, Handle<S::Pools>) {
    let supervisor = Supervisor::start();
    let credentials = supervisor
        .add_provider("login", provider)
        .await
        .expect("a token is signed");
    let db = supervisor
        .add_pool("orders", &credentials, server.pools(options))
        .await
        .expect("it is verified");
    (supervisor, db)
}

/// Returns the logins that the server rejected.
fn rejected(logins: &[TokenCheck]) -> Vec<&TokenCheck> {
    logins.iter().filter(|check| !check.accepted).collect()
}

/// The problem that this library solves: a token that is never replaced works only as long as no
/// connection is opened.
pub(crate) async fn an_expired_token_fails_only_when_a_connection_opens<S: TokenServer>() {
    let server: S = start_server().await;
    let lease = first_lease(&provider_with_lifetime(
        &Chain::key(),
        Duration::from_secs(3),
    ))
    .await;
    let options = PoolOptions::<S::Db>::new()
        .max_connections(2)
        .acquire_timeout(Duration::from_secs(5));
    let pool = options.connect_lazy_with(server.options_for(token(&lease)));
    let mut early = pool.acquire().await.expect("a young token is accepted");
    let expires_at = lease.expiry().wall().expect("it expires");
    eventually("the token has expired", || wall_time() > expires_at).await;

    let error = pool
        .acquire()
        .await
        .expect_err("a second connection is opened with an expired token");
    let rejection = error.as_database_error().expect("it is a database error");
    assert_eq!(
        rejection.code().as_deref(),
        Some(S::REJECTION.0),
        "{rejection}"
    );
    assert!(rejection.message().contains(S::REJECTION.1), "{rejection}");
    let logins = server.logins();
    let results: Vec<_> = logins
        .iter()
        .map(|check| (check.accepted, &*check.reason))
        .collect();
    assert_eq!(results, [(true, ""), (false, "the token has expired")]);
    // An open connection keeps working, which hides the problem until then.
    early
        .ping()
        .await
        .expect("the first connection still works");
}

/// Callers open connections all the time during twenty lifetimes of a token.
pub(crate) async fn twenty_token_lifetimes_pass_without_a_failure<S: TokenServer>() {
    const LIFETIME: Duration = Duration::from_secs(3);
    let server: S = start_server().await;
    let chain = Chain::key();
    let provider = provider_with_lifetime(&chain, LIFETIME);
    let (supervisor, db) = serve(&server, provider, reconnecting_options::<S>(4)).await;
    let callers = Callers::start(&db, 8);
    let end = wall_time() + 20 * LIFETIME;
    eventually_within(25 * LIFETIME, "twenty lifetimes are over", || {
        wall_time() >= end || callers.failures() > 0
    })
    .await;
    callers.stop_without_failure().await;
    supervisor.shutdown(Duration::from_secs(5)).await;

    let logins = server.logins();
    assert!(rejected(&logins).is_empty(), "{:?}", rejected(&logins));
    // The hazard: logins all the time, some with tokens in the second half of their lifetime.
    let tokens: BTreeSet<_> = logins.iter().map(signed_at).collect();
    assert!(
        tokens.len() >= 20 && logins.len() > 400,
        "{} tokens, {} logins",
        tokens.len(),
        logins.len()
    );
    let oldest = logins
        .iter()
        .map(|check| check.age)
        .max()
        .expect("there are some");
    assert!(
        oldest > LIFETIME / 2 && oldest < LIFETIME,
        "the oldest token was {oldest:?} old"
    );
    assert!(chain.calls() <= 65, "{} signatures in 60 s", chain.calls());
}

/// Tokens are signed for 15 minutes, and the sessions that sign them expire after four seconds.
pub(crate) async fn signing_sessions_that_expire_before_their_tokens_cause_no_failure<
    S: TokenServer,
>() {
    let server: S = start_server().await;
    let checks = server.checks().clone();
    // The chain's cache keeps a session until its last second, and the server rejects every token
    // of an expired session.
    let chain = Chain::sessions(
        Duration::from_secs(4),
        Duration::from_millis(1_200),
        move |key, end| {
            checks
                .expire_session(key, end)
                .expect("the server accepts it");
        },
    );
    let (supervisor, db) = serve(
        &server,
        common::provider(&chain),
        reconnecting_options::<S>(4),
    )
    .await;
    let callers = Callers::start(&db, 8);
    let keys = || {
        server
            .logins()
            .into_iter()
            .map(|check| check.access_key)
            .collect::<BTreeSet<_>>()
    };
    eventually_within(2 * PATIENCE, "six sessions were used", || {
        keys().len() >= 6 || callers.failures() > 0
    })
    .await;
    callers.stop_without_failure().await;
    supervisor.shutdown(Duration::from_secs(5)).await;

    let logins = server.logins();
    assert!(rejected(&logins).is_empty(), "{:?}", rejected(&logins));
    assert!(
        logins
            .iter()
            .all(|check| check.expires == Duration::from_secs(900)),
        "the tokens themselves are valid for longer"
    );

    // The hazard: a token of an expired session is rejected, whatever its own expiry.
    let checks = server.checks().clone();
    let expires_at = wall_time() + Duration::from_secs(2);
    checks
        .expire_session("ASIALAST", expires_at)
        .expect("the server accepts it");
    let lease = first_lease(&common::provider(&Chain::scripted(move || {
        Ok(session("ASIALAST", "t", Some(expires_at)))
    })))
    .await;
    eventually("the session has expired", || wall_time() > expires_at).await;
    let pool = PoolOptions::<S::Db>::new().connect_lazy_with(server.options_for(token(&lease)));
    pool.acquire().await.expect_err("its session has expired");
    let last = server.logins().pop().expect("there is one");
    assert_eq!(last.reason, "the signing session has expired");
}

/// PAM rejects everything for five seconds, as when IAM throttles.
pub(crate) async fn five_seconds_of_rejections_cost_few_logins<S: TokenServer>() {
    const MAX: u32 = 10;
    let server: S = start_server().await;
    let chain = Chain::key();
    let options = PoolOptions::new()
        .max_connections(MAX)
        .acquire_timeout(PATIENCE);
    let (supervisor, db) = serve(&server, common::provider(&chain), options).await;
    // A few connections are open. More callers start while every login is rejected, and need more
    // connections.
    let few = Callers::start(&db, 1);
    few.wait_for_more(50).await;
    let open = db.status().expect("it is supervised").connections;
    assert!(open < MAX, "{open} connections for one caller");
    let before = server.logins();
    let during = server.checks().from_now().expect("the checks can be read");
    let began = wall_time();
    server
        .checks()
        .reject_all(true)
        .expect("the server accepts it");
    let many = Callers::start(&db, 32);
    eventually("logins are rejected", || {
        during.rejected().expect("the checks can be read") > 0
    })
    .await;
    // Open connections keep working, and are shared.
    many.wait_for_more(200).await;
    few.wait_for_more(200).await;
    let names_clock = |error: claviger::error::ConnectError| {
        error.to_string().contains("check this machine's clock")
    };
    eventually_within(PATIENCE, "the last error names the clock", || {
        db.status()
            .and_then(|status| status.last_error)
            .is_some_and(names_clock)
    })
    .await;
    let end = began + Duration::from_secs(5);
    eventually_within(PATIENCE, "five seconds are over", || wall_time() >= end).await;
    server
        .checks()
        .reject_all(false)
        .expect("the server accepts it");
    eventually_within(
        PATIENCE,
        "a login is accepted again, and the pool serves",
        || {
            during.accepted().expect("the checks can be read") > 0
                && db
                    .status()
                    .is_some_and(|status| status.serving && !status.rejected)
        },
    )
    .await;
    // Without a restart, and without a new pool.
    many.wait_for_more(200).await;
    let (few, many) = (few.stop().await, many.stop().await);
    assert!(
        few.failed.is_empty() && many.failed.is_empty(),
        "{:?} {:?}",
        few.failed,
        many.failed
    );
    assert_eq!(few.interrupted + many.interrupted, 0);
    assert!(rejected(&before).is_empty());

    let rejected = during.rejected().expect("the checks can be read");
    assert!(
        rejected >= 2 && rejected <= MAX as usize + 3,
        "{rejected} failed logins with a maximum of {MAX}"
    );
    let tokens: BTreeSet<_> = server.logins().iter().map(signed_at).collect();
    assert!(
        tokens.len() <= 2,
        "at most one new token in half a minute: {tokens:?}"
    );
    supervisor.shutdown(Duration::from_secs(5)).await;
}

/// This machine's clock is 32 s behind, and tokens are valid for 40 s: the database accepts each
/// for eight seconds only.
pub(crate) async fn a_clock_that_is_behind_causes_no_failure<S: TokenServer>() {
    #[derive(Debug)]
    struct SlowClock;
    impl aws_types::sdk_config::TimeSource for SlowClock {
        fn now(&self) -> SystemTime {
            wall_time() - Duration::from_secs(32)
        }
    }
    let server: S = start_server().await;
    let aws = Chain::key()
        .config(None)
        .into_builder()
        .time_source(SlowClock)
        .build();
    let provider = RdsIam::builder(&aws, HOST, 5432, USER)
        .with_lifetime(Duration::from_secs(40))
        .build()
        .expect("the arguments are valid");
    let (supervisor, db) = serve(&server, provider, reconnecting_options::<S>(4)).await;
    let callers = Callers::start(&db, 8);
    let first = signed_at(&server.logins()[0]);
    let accepted_again = || {
        server
            .logins()
            .into_iter()
            .find(|check| check.accepted && signed_at(check) != first)
    };
    eventually_within(PATIENCE, "another token is accepted", || {
        accepted_again().is_some()
    })
    .await;
    callers.stop_without_failure().await;
    supervisor.shutdown(Duration::from_secs(5)).await;

    let logins = server.logins();
    let rejected = rejected(&logins);
    assert!(rejected[0].reason.contains("expired"), "{rejected:?}");
    let gap = accepted_again()
        .expect("it was accepted")
        .checked_at
        .duration_since(rejected[0].checked_at)
        .unwrap_or_default();
    assert!(
        gap < Duration::from_secs(5),
        "{gap:?} until the next token: {rejected:?}"
    );
}

/// All pools and all their connections use one signature.
pub(crate) async fn one_signature_is_used_by_all_pools<S: TokenServer>() {
    let server: S = start_server().await;
    let chain = Chain::key();
    let supervisor = Supervisor::start();
    let credentials = supervisor
        .add_provider("login", common::provider(&chain))
        .await
        .expect("a token is signed");
    let mut callers = Vec::new();
    for name in ["orders", "reports", "jobs"] {
        let db = supervisor
            .add_pool(
                name,
                &credentials,
                server.pools(reconnecting_options::<S>(4)),
            )
            .await
            .expect("it is verified");
        callers.push(Callers::start(&db, 4));
    }
    eventually_within(PATIENCE, "a hundred logins", || {
        server.checks().accepted().expect("the checks can be read") >= 100
    })
    .await;
    for callers in callers {
        assert!(callers.stop().await.failed.is_empty());
    }
    supervisor.shutdown(Duration::from_secs(5)).await;
    assert_eq!(
        server
            .logins()
            .iter()
            .map(|check| (signed_at(check), check.length))
            .collect::<BTreeSet<_>>()
            .len(),
        1
    );
    assert_eq!(chain.calls(), 1, "one signature");
}
