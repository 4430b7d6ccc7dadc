//! A held provider keeps its lease until it is resumed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use claviger::error::{ErrorKind, ProviderError};
use claviger::events::Event;
use claviger::lease::Expiry;
use claviger::provider::{FetchRequest, Fetched};
use claviger::report::RotationTrigger;
use claviger::{Credentials, Lease, Provider, Revision};
use claviger_fixtures::{Fixture, Scripted, fetches, query, rejection, sqlstate, until_generation};
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use tokio::time::sleep;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_held_provider_fetches_nothing_and_keeps_its_lease_until_it_is_resumed() {
    let Scripted {
        lab,
        provider,
        database,
        pool,
        ..
    } = Scripted::new().await;
    lab.supervisor.hold("login").expect("it is registered");
    let password = provider.rotate();
    database.accept_only([&password]);
    let before = provider.calls().len();
    provider.hint();
    assert!(pool.rejected(1, &rejection()));
    sleep(20 * MINUTE).await;
    assert_eq!(
        provider.calls().len(),
        before,
        "no fetch by hint, rejection or schedule"
    );
    assert!(
        lab.supervisor.status().providers[0].rejected,
        "the hazard: the current lease is rejected"
    );
    assert_eq!(pool.current().password(), "password-1");
    lab.supervisor.resume("login").expect("it is registered");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(pool.current().password(), password, "adopted at once");
}

#[tokio::test(start_paused = true)]
async fn a_hold_is_shown_and_does_not_end_readiness() {
    let Scripted { lab, .. } = Scripted::new().await;
    let supervisor = &lab.supervisor;
    let mut events = supervisor.events();
    assert_eq!(supervisor.readiness().notes, Vec::<String>::new());
    supervisor.hold("login").expect("it is registered");
    let since = supervisor.status().providers[0].held.expect("it is held");
    sleep(MINUTE).await;
    supervisor
        .hold("login")
        .expect("holding it again does nothing");
    assert_eq!(supervisor.status().providers[0].held, Some(since));
    let readiness = supervisor.readiness();
    assert!(readiness.ready && readiness.reasons.is_empty());
    let [note] = &readiness.notes[..] else {
        unreachable!("one note: {readiness:?}");
    };
    assert!(
        note.starts_with("provider \"login\" is held since 20"),
        "{note}"
    );
    supervisor.resume("login").expect("it is registered");
    supervisor
        .resume("login")
        .expect("resuming it again does nothing");
    assert_eq!(supervisor.status().providers[0].held, None);
    assert!(supervisor.readiness().notes.is_empty());
    let (first, second) = (events.next().await, events.next().await);
    assert!(
        matches!(&first, Some(Event::Held { provider }) if &**provider == "login"),
        "{first:?}"
    );
    assert!(
        matches!(&second, Some(Event::Resumed { provider }) if &**provider == "login"),
        "{second:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn rotate_now_of_a_held_provider_is_the_error_held() {
    let Scripted { lab, provider, .. } = Scripted::new().await;
    lab.supervisor.hold("login").expect("it is registered");
    let error = lab.supervisor.rotate_now("login").await;
    let error = error.expect_err("it is held");
    assert_eq!(error.kind(), ErrorKind::Held);
    let text = error.to_string();
    assert!(
        text.starts_with("provider \"login\" is held since 20") && text.contains("call resume"),
        "{text}"
    );
    assert_eq!(fetches(&provider, RotationTrigger::Manual), 0);
    lab.supervisor.resume("login").expect("it is registered");
    lab.supervisor
        .rotate_now("login")
        .await
        .expect("it rotates");
}

#[tokio::test(start_paused = true)]
async fn a_hold_ends_a_running_rotate_now_whose_lease_is_not_adopted() {
    let Scripted {
        lab,
        provider,
        pool,
        ..
    } = Scripted::new().await;
    provider.stall();
    provider.rotate();
    let rotating = tokio::spawn({
        let supervisor = lab.supervisor.clone();
        async move { supervisor.rotate_now("login").await }
    });
    sleep(Duration::from_secs(1)).await;
    lab.supervisor.hold("login").expect("it is registered");
    let error = rotating.await.expect("no panic").expect_err("it is held");
    assert_eq!(error.kind(), ErrorKind::Held);
    provider.resume();
    sleep(MINUTE).await;
    assert_eq!(pool.current().password(), "password-1");
    assert_eq!(provider.released(), [Revision::new("2")], "nobody uses it");
}

#[tokio::test(start_paused = true)]
async fn a_hold_outlives_the_provider_actor() {
    let Scripted {
        lab,
        provider,
        pool,
        ..
    } = Scripted::new().await;
    lab.supervisor.hold("login").expect("it is registered");
    lab.failpoints.set("login", "provider.wake", 1);
    provider.rotate();
    provider.hint();
    sleep(10 * MINUTE).await;
    assert_eq!(lab.failpoints.left("login", "provider.wake"), 0);
    let status = lab.supervisor.status();
    assert!(status.providers[0].restarts >= 1, "the actor crashed");
    assert!(status.providers[0].held.is_some());
    assert_eq!(pool.current().password(), "password-1");
    lab.supervisor.resume("login").expect("it is registered");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(pool.current().password(), "password-2");
}

/// Provides a user that it can renew for ever, or not at all, and another one at each fetch.
#[derive(Debug, Default)]
struct Users {
    renewable: bool,
    renewals: Arc<AtomicU32>,
    created: AtomicU32,
}

impl Provider for Users {
    type Secret = Credentials;

    async fn fetch(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Fetched<Credentials>, ProviderError> {
        let number = self.created.fetch_add(1, Ordering::AcqRel) + 1;
        let credentials = Credentials::new(format!("user-{number}"), format!("password-{number}"));
        let lease = Lease::new(credentials, Revision::new(number.to_string()));
        Ok(lease
            .with_expiry(Expiry::after(request.started, 10 * MINUTE))
            .into())
    }

    async fn renew(
        &self,
        request: FetchRequest<Credentials>,
    ) -> Result<Option<Expiry>, ProviderError> {
        self.renewals.fetch_add(1, Ordering::AcqRel);
        let expiry = Expiry::after(request.started, 10 * MINUTE);
        Ok(self.renewable.then_some(expiry))
    }
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_held_provider_is_renewed() {
    let lab = Lab::new();
    let users = Users {
        renewable: true,
        ..Users::default()
    };
    let renewals = Arc::clone(&users.renewals);
    let credentials = lab.add_provider("login", users).await;
    let pool = lab
        .add_pool("orders", &credentials, ScriptedPools::new(4))
        .await;
    lab.supervisor.hold("login").expect("it is registered");
    sleep(60 * MINUTE).await;
    let renewals = renewals.load(Ordering::Acquire);
    assert!((6..=10).contains(&renewals), "{renewals} renewals");
    assert_eq!(pool.current().password(), "password-1");
    assert!(lab.supervisor.readiness().ready);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_expires_during_a_hold_is_not_used_for_logins() {
    let lab = Lab::new();
    let users = Users::default();
    let renewals = Arc::clone(&users.renewals);
    let database = ScriptedPools::new(4);
    let credentials = lab.add_provider("login", users).await;
    let pool = lab.add_pool("orders", &credentials, database.clone()).await;
    lab.supervisor.hold("login").expect("it is registered");
    sleep(11 * MINUTE).await;
    let logins = database.verifications().len();
    sleep(60 * MINUTE).await;
    assert_eq!(renewals.load(Ordering::Acquire), 1, "one renewal");
    assert_eq!(database.verifications().len(), logins, "law 8");
    let readiness = lab.supervisor.readiness();
    assert!(
        !readiness.ready && readiness.notes.len() == 1,
        "{readiness:?}"
    );
    assert_eq!(pool.generation(), 1);
    lab.supervisor.resume("login").expect("it is registered");
    sleep(Duration::from_secs(1)).await;
    assert!(lab.supervisor.readiness().ready);
    assert_eq!(pool.generation(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_error_for_an_unknown_provider_names_the_registered_ones() {
    let Scripted { lab, .. } = Scripted::new().await;
    for error in [
        lab.supervisor.hold("logim").expect_err("there is none"),
        lab.supervisor.resume("logim").expect_err("there is none"),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotRegistered);
        assert!(
            error.to_string().contains("registered: \"login\""),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_a_held_provider_get_the_rejection_until_it_is_resumed() {
    let fixture = Fixture::with(ScriptedProvider::new()).await;
    let db = fixture.pool(4).await;
    query(&db).await.expect("the query succeeds");
    fixture.supervisor.hold("login").expect("it is registered");
    let password = fixture.provider.rotate();
    fixture.set_password(&password).await;
    fixture.terminate_connections().await;
    let error = query(&db).await.expect_err("there is no other lease");
    assert_eq!(sqlstate(&error).as_deref(), Some("28P01"), "{error}");
    assert_eq!(fixture.provider.calls().len(), 1);
    fixture
        .supervisor
        .resume("login")
        .expect("it is registered");
    until_generation(&db, 2).await;
    query(&db).await.expect("the new password is used");
}
