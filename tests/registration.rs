//! Invalid input: one clear error that names the field and what would be right. Nothing is started
//! and nothing is lost.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use claviger::error::{ErrorKind, ProviderError, ProviderErrorKind};
use claviger::lease::{Expiry, OldConnections};
use claviger::pool::HandoverPolicy;
use claviger::provider::FetchRequest;
use claviger::{
    Credentials, Endpoint, Error, Lease, PgPools, Revision, Supervisor, provider_fn,
    static_credentials,
};
use claviger_fixtures::{Scripted, backend_down, rejection};
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use tokio::sync::Notify;
use tokio::time::Instant;

fn options() -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(1)
        .database("orders")
}

/// Returns the error of registering a pool with these credentials, and asserts that nothing stays
/// registered.
async fn registration_error(credentials: Credentials, pools: PgPools) -> Error {
    let supervisor = Supervisor::start();
    let provider = supervisor
        .add_provider("login", static_credentials(credentials))
        .await
        .expect("a lease");
    let error = supervisor
        .add_pool("orders", &provider, pools)
        .await
        .expect_err("out of range");
    assert!(
        supervisor.status().pools.is_empty(),
        "nothing stays registered"
    );
    error
}

fn pools() -> PgPools {
    PgPools::new(options(), PgPoolOptions::new())
}

#[tokio::test]
async fn invalid_names_are_errors() {
    let lab = Lab::new();
    let provider = ScriptedProvider::new();
    for bad in ["", "  ", "a\nb"] {
        let error = lab
            .supervisor
            .add_provider(bad, provider.clone())
            .await
            .expect_err("a bad name");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with("provider name: "), "{error}");
    }
    let credentials = lab.add_provider("login", provider.clone()).await;
    let error = lab
        .supervisor
        .add_provider("login", provider.clone())
        .await
        .expect_err("taken");
    assert_eq!(
        (error.kind(), error.to_string().contains("\"login\" exists")),
        (ErrorKind::AlreadyRegistered, true)
    );
    lab.add_pool("pool", &credentials, ScriptedPools::new(1))
        .await;
    assert_eq!(
        lab.supervisor
            .add_pool("pool", &credentials, ScriptedPools::new(1))
            .await
            .expect_err("taken")
            .kind(),
        ErrorKind::AlreadyRegistered
    );
    assert_eq!(
        lab.supervisor
            .add_pool("", &credentials, ScriptedPools::new(1))
            .await
            .expect_err("empty")
            .kind(),
        ErrorKind::InvalidInput
    );
    let error = lab
        .supervisor
        .rotate_now("logni")
        .await
        .expect_err("the provider is not registered");
    assert!(
        error.to_string().contains("\"login\""),
        "the registered providers are named: {error}"
    );
    let error = lab.supervisor.rotate_now("pool").await;
    let text = error.expect_err("the name of a pool").to_string();
    assert!(
        text.contains("\"pool\" is a pool of provider \"login\""),
        "{text}"
    );
    let other = Supervisor::start();
    let error = other
        .add_pool("pool", &credentials, ScriptedPools::new(1))
        .await
        .expect_err("of another supervisor");
    assert!(error.to_string().starts_with("provider: "), "{error}");
    assert_eq!(provider.calls().len(), 1);
}

#[tokio::test]
async fn durations_and_sizes_out_of_range_are_errors() {
    type Set = fn(claviger::SupervisorBuilder, Duration) -> claviger::SupervisorBuilder;
    let fields: [(&str, Set); 5] = [
        (
            "fetch_deadline",
            claviger::SupervisorBuilder::with_fetch_deadline,
        ),
        (
            "start_deadline",
            claviger::SupervisorBuilder::with_start_deadline,
        ),
        (
            "verify_deadline",
            claviger::SupervisorBuilder::with_verify_deadline,
        ),
        (
            "drain_deadline",
            claviger::SupervisorBuilder::with_drain_deadline,
        ),
        (
            "poll_interval",
            claviger::SupervisorBuilder::with_poll_interval,
        ),
    ];
    for (field, set) in fields {
        for bad in [Duration::ZERO, Duration::MAX] {
            let error = set(Supervisor::builder(), bad)
                .start()
                .expect_err("out of range");
            assert!(
                error.to_string().starts_with(&format!("{field}: ")),
                "{error}"
            );
        }
    }
    for (field, bad) in [
        (
            "max_connections: 0",
            PgPools::new(options(), PgPoolOptions::new().max_connections(0)),
        ),
        (
            "min_connections: 11",
            PgPools::new(
                options(),
                PgPoolOptions::new().max_connections(10).min_connections(11),
            ),
        ),
        ("overlap: 0", pools().with_overlap(0)),
        ("overlap: 11", pools().with_overlap(11)),
        (
            "acquire_timeout: 0s",
            PgPools::new(
                options(),
                PgPoolOptions::new().acquire_timeout(Duration::ZERO),
            ),
        ),
    ] {
        let error = registration_error(Credentials::new("app", "s3cret"), bad).await;
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().starts_with(field), "{error}");
        assert!(
            error.to_string().contains("\"orders\""),
            "the error names the pool: {error}"
        );
    }
}

#[tokio::test]
async fn invalid_credentials_are_errors() {
    let empty = PgConnectOptions::new_without_pgpass().host("127.0.0.1");
    let (url, with_port) = (
        options().host("postgres://u:s3cret@h/db"),
        options().host("db:5432"),
    );
    for (expected, credentials, pools) in [
        ("user: ", Credentials::new("", "s3cret"), pools()),
        ("password: ", Credentials::new("app", ""), pools()),
        (
            "credentials: ",
            Credentials::new("app", "s3\0cret"),
            pools(),
        ),
        (
            "host: ",
            Credentials::new("app", "s3cret").with_endpoint(Endpoint::new("", 5432, "orders")),
            pools(),
        ),
        (
            "host: is a URL",
            Credentials::new("app", "s3cret")
                .with_endpoint(Endpoint::server("postgres://u:s3cret@h/db", 5432)),
            pools(),
        ),
        (
            "host: of the connect options is a URL",
            Credentials::new("app", "s3cret"),
            PgPools::new(url, PgPoolOptions::new()),
        ),
        (
            "host: of the connect options has a port",
            Credentials::new("app", "s3cret"),
            PgPools::new(with_port, PgPoolOptions::new()),
        ),
        (
            "port: ",
            Credentials::new("app", "s3cret").with_endpoint(Endpoint::new("db", 0, "orders")),
            pools(),
        ),
        (
            "port: ",
            Credentials::new("app", "s3cret").with_endpoint(Endpoint::of_host("db")),
            PgPools::new(options().port(0), PgPoolOptions::new()),
        ),
        (
            "database: ",
            Credentials::new("app", "s3cret").with_endpoint(Endpoint::new("db", 5432, "")),
            pools(),
        ),
        (
            "database: ",
            Credentials::new("app", "s3cret"),
            PgPools::new(empty, PgPoolOptions::new()),
        ),
        (
            "max_lifetime: ",
            Credentials::new("app", "s3cret"),
            PgPools::new(options(), PgPoolOptions::new().max_lifetime(Duration::ZERO)),
        ),
        (
            "idle_timeout: ",
            Credentials::new("app", "s3cret"),
            PgPools::new(options(), PgPoolOptions::new().idle_timeout(Duration::ZERO)),
        ),
        (
            "ssl_mode: ",
            Credentials::new("app", "s3cret").with_password_as_token(),
            pools(),
        ),
        (
            "ssl_mode: ",
            Credentials::new("app", "s3cret").with_password_as_token(),
            PgPools::new(options().ssl_mode(PgSslMode::Require), PgPoolOptions::new()),
        ),
        (
            "ssl_mode: ",
            Credentials::new("app", "s3cret").with_password_as_token(),
            PgPools::new(
                options().ssl_mode(PgSslMode::VerifyCa),
                PgPoolOptions::new(),
            ),
        ),
    ] {
        assert!(!format!("{pools:?}{credentials:?}").contains("s3cret"));
        let error = registration_error(credentials, pools).await;
        assert_eq!(error.kind(), ErrorKind::Pool);
        assert!(
            error.to_string().contains(&format!(": {expected}")),
            "{error}"
        );
        assert!(!error.is_transient());
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}

#[tokio::test]
async fn an_unresolvable_host_in_the_connect_options_is_an_error() {
    let began = Instant::now();
    for (host, word) in [
        ("db.internal:5432", "port"),
        ("a.internal,b.internal", "several"),
        ("db.internal ", "white space"),
        ("postgres://db.internal", "URL"),
        ("app@db.internal", "URL"),
        (" ", "empty"),
    ] {
        let credentials = || Credentials::new("app", "s3cret");
        let error = registration_error(
            credentials(),
            PgPools::new(options().host(host), PgPoolOptions::new()),
        )
        .await;
        assert_eq!(error.kind(), ErrorKind::Pool);
        assert!(!error.is_transient());
        let error = error.to_string();
        assert!(
            error.contains(": host") && error.contains(word),
            "{host:?}: {error}"
        );
        // If the credentials name an endpoint, the host of the options is not used.
        let elsewhere = credentials().with_endpoint(Endpoint::new("127.0.0.1", 5432, ""));
        let error = registration_error(
            elsewhere,
            PgPools::new(options().host(host), PgPoolOptions::new()),
        )
        .await
        .to_string();
        assert!(error.contains(": database: "), "{host:?}: {error}");
    }
    // No DNS lookup was waited for.
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn always_in_place_rejects_a_lease_that_ends_its_connections() {
    let lab = Lab::new();
    let provider = ScriptedProvider::new()
        .with_old_connections(OldConnections::EndWithLease)
        .with_lifetime(Duration::from_secs(3_600));
    let credentials = lab.add_provider("login", provider).await;
    let error = lab
        .supervisor
        .add_pool(
            "orders",
            &credentials,
            pools().with_handover_policy(HandoverPolicy::AlwaysInPlace),
        )
        .await
        .expect_err("the lease ends its connections");
    assert!(error.to_string().contains("handover_policy"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn unusable_leases_are_errors() {
    let lab = Lab::new();
    let provide = |name: &'static str, seconds: u64, connections: OldConnections| {
        let supervisor = lab.supervisor.clone();
        async move {
            let provider = provider_fn(move |request: FetchRequest<Credentials>| async move {
                let expiry = Expiry::after(request.started, Duration::from_secs(seconds));
                Ok::<_, ProviderError>(
                    Lease::new(Credentials::new("app", "s3cret"), Revision::new("1"))
                        .with_expiry(expiry)
                        .with_old_connections(connections),
                )
            });
            supervisor
                .add_provider(name, provider)
                .await
                .expect_err("the lease is unusable")
        }
    };
    let error = provide("expired", 0, OldConnections::Keep).await;
    assert_eq!(
        error.provider_error().expect("the provider's error").kind(),
        ProviderErrorKind::ExpiredLease
    );
    let error = provide("short", 1, OldConnections::Keep).await;
    assert!(error.to_string().contains("too short"), "{error}");
    let error = provide("short-role", 3, OldConnections::EndWithLease).await;
    assert!(error.to_string().contains("too short"), "{error}");
    assert!(
        lab.supervisor.status().providers.is_empty(),
        "nothing stays registered"
    );
}

#[tokio::test(start_paused = true)]
async fn failing_providers_end_registration_with_their_error() {
    let lab = Lab::new();
    let began = tokio::time::Instant::now();
    let denied = ScriptedProvider::new();
    denied.fail_next(
        9,
        ProviderError::new(
            ProviderErrorKind::Denied,
            "grant secretsmanager:GetSecretValue",
        ),
    );
    let error = lab
        .supervisor
        .add_provider("denied", denied.clone())
        .await
        .expect_err("denied");
    assert_eq!(
        (began.elapsed(), denied.calls().len()),
        (Duration::ZERO, 1),
        "one fetch, and the error at once"
    );
    assert!(
        error
            .to_string()
            .contains("grant secretsmanager:GetSecretValue"),
        "{error}"
    );

    let down = ScriptedProvider::new();
    down.fail_next(1_000, backend_down());
    let error = lab
        .supervisor
        .add_provider("down", down.clone())
        .await
        .expect_err("down");
    assert_eq!(began.elapsed().as_secs(), 30, "retried until the deadline");
    assert!(error.is_transient() && down.calls().len() > 2, "{error}");

    let silent = ScriptedProvider::new();
    silent.stall();
    let error = lab
        .supervisor
        .add_provider("silent", silent.clone())
        .await
        .expect_err("silent");
    assert_eq!(
        error.provider_error().expect("the provider's error").kind(),
        ProviderErrorKind::TimedOut
    );
    assert!(lab.supervisor.status().providers.is_empty());

    let panics = ScriptedProvider::new();
    panics.panic_next();
    lab.add_provider("panics", panics).await;
}

/// The server accepts connections and never responds.
#[tokio::test]
async fn a_start_that_ends_during_its_first_verification_names_the_pool_and_its_server() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let supervisor = Supervisor::builder()
        .with_start_deadline(Duration::from_secs(1))
        .start()
        .expect("valid settings");
    let credentials = static_credentials(Credentials::new("app", "password"));
    let provider = supervisor.add_provider("login", credentials).await;
    let pools = PgPools::new(options().port(port), PgPoolOptions::new());
    let error = supervisor
        .add_pool("orders", &provider.expect("a lease"), pools)
        .await
        .expect_err("no response");
    assert_eq!(error.kind(), ErrorKind::Pool, "{error}");
    let text = error.to_string();
    for part in [
        "pool \"orders\" could not log in with a lease of provider \"login\" within 1s",
        "the first verification, a login with its checks and hooks, has not ended",
        &format!("user \"app\" at 127.0.0.1:{port}"),
    ] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_revision_is_adopted_only_when_the_current_one_is_rejected() {
    let Scripted {
        lab,
        provider,
        database,
        pool,
        ..
    } = Scripted::new().await;
    provider.rotate();
    lab.supervisor.rotate_now("login").await.expect("a new one");
    assert_eq!(pool.current().password(), "password-2");
    // A stale replica returns the previous revision.
    provider.roll_back_to(1);
    lab.supervisor.rotate_now("login").await.expect("a report");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(
        (pool.current().password().as_str(), pool.generation()),
        ("password-2", 2)
    );
    // A rotation is rolled back: the current revision is rejected.
    database.accept_only(["password-1"]);
    pool.rejected(2, &rejection());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(pool.current().password(), "password-1");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_arrives_after_its_deadline_is_released() {
    let Scripted {
        lab,
        provider,
        pool,
        ..
    } = Scripted::new().await;
    provider.stall();
    provider.return_next(Lease::new(
        Credentials::new("app", "late"),
        Revision::new("late"),
    ));
    provider.hint();
    // The fetch fails after thirty seconds. Its late result arrives together with the next one's.
    tokio::time::sleep(Duration::from_secs(35)).await;
    assert_eq!(
        lab.supervisor.status().providers[0]
            .last_error
            .as_ref()
            .map(ProviderError::kind),
        Some(ProviderErrorKind::TimedOut)
    );
    provider.resume();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        provider.released(),
        [Revision::new("late")],
        "the lease in use is not released"
    );
    assert_eq!(pool.generation(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_arrives_after_its_registration_failed_is_released() {
    let lab = Lab::new();
    let provider = ScriptedProvider::new();
    provider.stall();
    let began = tokio::time::Instant::now();
    lab.supervisor
        .add_provider("login", provider.clone())
        .await
        .expect_err("the fetch hangs");
    assert!(
        began.elapsed() <= Duration::from_secs(32),
        "{:?}",
        began.elapsed()
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    provider.resume();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(
        provider.released().contains(&Revision::new("1")),
        "{:?}",
        provider.released()
    );
}

#[tokio::test(start_paused = true)]
async fn unbounded_durations_never_elapse() {
    let lab = Lab::new();
    let provider = ScriptedProvider::new().with_refresh_after(Duration::MAX);
    provider.fail_next(
        1,
        ProviderError::new(ProviderErrorKind::Throttled, "later")
            .with_retry_after(Duration::from_secs(5)),
    );
    lab.add_provider("login", provider.clone()).await;
    provider.fail_next(
        1,
        ProviderError::new(ProviderErrorKind::Throttled, "never").with_retry_after(Duration::MAX),
    );
    provider.hint();
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    assert_eq!(provider.calls().len(), 3);
}

#[tokio::test]
async fn dropping_a_registration_does_not_affect_a_newer_one() {
    let lab = Lab::new();
    let (provider, database) = (ScriptedProvider::new(), ScriptedPools::new(1));
    let credentials = lab.add_provider("login", provider).await;
    database.stall();
    let mut first = Box::pin(
        lab.supervisor
            .add_pool("pool", &credentials, database.clone()),
    );
    assert!(
        tokio::time::timeout(Duration::from_millis(20), &mut first)
            .await
            .is_err(),
        "the registration waits for its verification"
    );
    database.resume();
    lab.supervisor
        .remove_pool("pool")
        .await
        .expect("the pool is removed");
    let second = lab
        .add_pool("pool", &credentials, ScriptedPools::new(1))
        .await;
    drop(first);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!second.is_closed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pool_that_is_removed_during_an_update_in_place_is_drained_once() {
    let provider = ScriptedProvider::new().with_old_connections(OldConnections::Keep);
    let Scripted { lab, database, .. } = Scripted::with(provider.clone()).await;
    let (is_updating, drains) = (Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
    database.on_call({
        let (is_updating, drains) = (Arc::clone(&is_updating), Arc::clone(&drains));
        move |method| match method {
            "drain" => drop(drains.fetch_add(1, Ordering::AcqRel)),
            "update_in_place" => {
                is_updating.notify_one();
                // The update ends after the removal has begun to drain the pool.
                let begins = (0..10_000).any(|_| {
                    std::thread::sleep(Duration::from_millis(1));
                    drains.load(Ordering::Acquire) > 0
                });
                begins.then_some(()).expect("the removal begins a drain");
            }
            _ => {}
        }
    });
    provider.rotate();
    let rotation = tokio::spawn({
        let supervisor = lab.supervisor.clone();
        async move { supervisor.rotate_now("login").await }
    });
    is_updating.notified().await;
    let removed = lab.supervisor.remove_pool("orders").await;
    removed.expect("registered");
    rotation.await.expect("no panic").expect("a report");
    // The removal waited for the update; whatever that started has begun by now.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(drains.load(Ordering::Acquire), 1);
}

#[tokio::test]
async fn a_provider_that_was_removed_serves_no_new_pool() {
    let lab = Lab::new();
    let old = lab.add_provider("login", ScriptedProvider::new()).await;
    lab.supervisor
        .remove_provider("login")
        .await
        .expect("the provider is removed");
    lab.add_provider("login", ScriptedProvider::new()).await;
    let error = lab
        .supervisor
        .add_pool("pool", &old, ScriptedPools::new(1))
        .await
        .expect_err("the provider was removed");
    assert_eq!(error.kind(), ErrorKind::NotRegistered);
}

#[test]
fn a_shutdown_outlives_the_runtime_of_its_caller() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let lab = {
        let _entered = runtime.enter();
        Lab::new()
    };
    let short = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    short.block_on(async {
        let _ = tokio::time::timeout(
            Duration::from_nanos(1),
            lab.supervisor.shutdown(Duration::from_secs(5)),
        )
        .await;
    });
    drop(short);
    let report = runtime.block_on(async {
        tokio::time::timeout(
            Duration::from_secs(10),
            lab.supervisor.shutdown(Duration::from_secs(1)),
        )
        .await
    });
    assert!(report.expect("the shutdown ends").clean);
}

#[tokio::test]
async fn a_dropped_registration_frees_its_name() {
    let lab = Lab::new();
    let provider = ScriptedProvider::new();
    provider.stall();
    let given_up = tokio::time::timeout(
        Duration::from_millis(20),
        lab.supervisor.add_provider("login", provider.clone()),
    )
    .await;
    assert!(given_up.is_err());
    assert!(lab.supervisor.status().providers.is_empty());
    provider.resume();
    lab.add_provider("login", provider).await;
}
