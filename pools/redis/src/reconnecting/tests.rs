//! The streams, read as redis-rs does.

use claviger::Credentials;
use claviger::pool::ObservedPermits;
use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{sleep, timeout};

use super::*;

fn provider() -> (Verified, Reconnecting, Arc<State>) {
    provider_with(&ObservedPermits::new(|_| {}))
}

fn provider_with(permits: &ObservedPermits) -> (Verified, Reconnecting, Arc<State>) {
    let verified = Verified::new(Credentials::new("app", "first"), permits.login_permits());
    let state = Arc::<State>::default();
    let provider = Reconnecting::new(verified.clone(), &state);
    (verified, provider, state)
}

#[tokio::test(start_paused = true)]
async fn logins_without_a_success_are_limited_until_newer_credentials() {
    let (verified, provider, state) = provider();
    for _ in 0..LOGINS {
        assert!(provider.subscribe().next().now_or_never().is_some());
    }
    assert!(state.is_usable());
    let mut waiting = provider.subscribe();
    let mut next = waiting.next();
    assert!((&mut next).now_or_never().is_none());
    assert!(state.is_usable(), "a login may still succeed");
    assert!(timeout(GRACE, &mut next).await.is_err());
    assert!(!state.is_usable());
    verified.update(Credentials::new("app", "second"));
    let auth = next.await.and_then(Result::ok);
    assert_eq!(
        auth.map(|auth| auth.password().to_owned()).as_deref(),
        Some("second")
    );
}

/// Subscribes twice and polls as redis-rs does for a login that succeeds.
async fn log_in(provider: &Reconnecting, server: &tokio::sync::Semaphore) {
    provider.subscribe().next().await;
    if let Ok(permit) = server.acquire().await {
        permit.forget();
    }
    let mut later = provider.subscribe();
    tokio::spawn(async move { while later.next().await.is_some() {} });
}

#[tokio::test(start_paused = true)]
async fn a_large_cluster_is_not_limited() {
    let (_, provider, state) = provider();
    let server = tokio::sync::Semaphore::new(1);
    log_in(&provider, &server).await;
    let nodes = LOGINS * 4;
    server.add_permits(nodes as usize);
    let began = Instant::now();
    join_all((0..nodes).map(|_| log_in(&provider, &server))).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(state.is_usable());
    assert!(provider.client().reach(1).now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_open_connection_keeps_a_limited_client() {
    let (_, provider, state) = provider();
    let mut open = provider.subscribe();
    open.next().await;
    assert!(open.next().now_or_never().is_none());
    for _ in 0..LOGINS {
        provider.subscribe().next().await;
    }
    assert!(
        timeout(GRACE * 2, provider.subscribe().next())
            .await
            .is_err()
    );
    assert!(state.is_usable());
    assert!(state.is_suspect(), "a PING decides");
}

#[tokio::test(start_paused = true)]
async fn logins_wait_for_the_first_success_of_those_in_progress() {
    let (_, provider, state) = provider();
    let server = tokio::sync::Semaphore::new(0);
    let began = Instant::now();
    let all = join_all((0..=LOGINS).map(|_| log_in(&provider, &server)));
    let responding = async {
        sleep(GRACE / 2).await;
        server.add_permits(LOGINS as usize + 1);
    };
    tokio::join!(all, responding);
    assert_eq!(began.elapsed(), GRACE / 2);
    assert!(state.is_usable());
}

#[tokio::test(start_paused = true)]
async fn one_login_follows_in_ten_seconds() {
    let (_, provider, _) = provider();
    let began = Instant::now();
    for _ in 0..LOGINS + 3 {
        provider.subscribe().next().await;
    }
    assert_eq!(began.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn a_dropped_client_frees_its_state() {
    let (_, provider, state) = provider();
    state.set_client(provider.client());
    let weak = Arc::downgrade(&state);
    drop((provider, state));
    assert_eq!(weak.strong_count(), 0);
}

#[tokio::test]
async fn each_open_connection_authenticates_again_or_replaces_the_client() {
    let (verified, provider, state) = provider();
    let client = provider.client();
    let (mut one, mut two) = (provider.subscribe(), provider.subscribe());
    for stream in [&mut one, &mut two] {
        stream.next().await;
        assert!(stream.next().now_or_never().is_none());
    }
    assert!(client.reach(1).now_or_never().is_some());
    verified.update(Credentials::new("app", "second"));
    assert!(client.reach(2).now_or_never().is_none());
    one.next().await;
    assert!(one.next().now_or_never().is_none());
    two.next().await;
    assert!(client.reach(2).now_or_never().is_none(), "one of two");
    // As redis-rs does after a rejection.
    drop(two);
    assert!(client.reach(2).now_or_never().is_some());
    assert!(!state.is_usable());
}

#[tokio::test]
async fn a_client_without_a_connection_is_suspect() {
    let (_, provider, state) = provider();
    let (mut one, mut two) = (provider.subscribe(), provider.subscribe());
    for stream in [&mut one, &mut two] {
        stream.next().await;
        assert!(stream.next().now_or_never().is_none());
    }
    drop(one);
    assert!(state.is_usable() && !state.is_suspect(), "one of two");
    drop(two);
    assert!(state.is_usable() && state.is_suspect(), "a PING decides");
}

#[tokio::test]
async fn a_client_whose_connection_failed_its_first_authentication_is_replaced() {
    let (verified, provider, state) = provider();
    let client = provider.client();
    provider.subscribe().next().await;
    client.reach(1).await;
    assert!(state.is_usable(), "a login counts as no lost connection");
    let mut later = provider.subscribe();
    let failing = tokio::spawn(async move {
        // As redis-rs does after an error of `AUTH`.
        later.next().await;
    });
    assert!(failing.await.is_ok());
    verified.update(Credentials::new("app", "second"));
    client.reach(2).await;
    assert!(!state.is_usable());
}

async fn password(next: impl Future<Output = Option<RedisResult<BasicAuth>>>) -> Option<String> {
    let auth = next.await?.ok()?;
    Some(auth.password().to_owned())
}

#[tokio::test(start_paused = true)]
async fn no_login_begins_with_expired_credentials() {
    let permits = ObservedPermits::new(|_| {});
    let (verified, provider, state) = provider_with(&permits);
    let mut login = provider.subscribe();
    permits.set_expired(true);
    let mut next = login.next();
    assert!(timeout(GRACE / 2, &mut next).await.is_err());
    assert!(state.is_usable(), "a newer lease may follow at once");
    assert!(timeout(GRACE, &mut next).await.is_err());
    assert!(!state.is_usable());
    verified.update(Credentials::new("app", "second"));
    permits.set_expired(false);
    assert_eq!(password(next).await.as_deref(), Some("second"));
}

#[tokio::test(start_paused = true)]
async fn an_open_connection_keeps_a_client_with_expired_credentials() {
    let permits = ObservedPermits::new(|_| {});
    let (_, provider, state) = provider_with(&permits);
    let mut open = provider.subscribe();
    open.next().await;
    assert!(open.next().now_or_never().is_none());
    permits.set_expired(true);
    let mut login = provider.subscribe();
    assert!(timeout(GRACE * 2, login.next()).await.is_err());
    assert!(state.is_usable() && !state.is_suspect());
}
