//! Leases that are not verified: the current one expires meanwhile, or stays as it was.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use claviger::error::{ConnectError, ConnectErrorKind, ProviderError};
use claviger::lease::{Expiry, OldConnections};
use claviger::provider::{FetchRequest, Fetched};
use claviger::report::RotationTrigger;
use claviger::{Credentials, Lease, Revision, provider_fn};
use claviger_fixtures::Scripted;
use claviger_testkit::{Lab, ScriptedPools, ScriptedProvider};
use tokio::time::{Instant, sleep};

/// The backend renews the current user. It creates another one at a manual rotation, or when the
/// current one is rejected.
#[tokio::test(start_paused = true)]
async fn a_rejected_user_is_replaced_before_the_current_one_expires() {
    let (lab, database) = (Lab::new(), ScriptedPools::new(4));
    let created = Arc::new(AtomicU32::new(0));
    let lifetime = Duration::from_secs(60);
    let backend = provider_fn({
        let created = Arc::clone(&created);
        move |request: FetchRequest<Credentials>| {
            let expiry = Expiry::after(request.started, lifetime);
            let renewed = request.current.as_ref().filter(|current| {
                request.trigger != RotationTrigger::Manual
                    && !request.is_rejected(current.revision())
            });
            let fetched = renewed
                .map(|_| Fetched::Renewed(expiry))
                .unwrap_or_else(|| {
                    let user = format!("user-{}", created.fetch_add(1, Ordering::AcqRel) + 1);
                    let credentials = Credentials::new(user.clone(), format!("password-of-{user}"));
                    Lease::new(credentials, Revision::new(user))
                        .with_expiry(expiry)
                        .with_old_connections(OldConnections::EndWithLease)
                        .into()
                });
            async move { Ok::<_, ProviderError>(fetched) }
        }
    });
    let credentials = lab.add_provider("login", backend).await;
    let pool = lab.add_pool("pool", &credentials, database.clone()).await;
    // The second user is dropped before its first login.
    database.accept_only(["password-of-user-1", "password-of-user-3"]);
    let began = Instant::now();
    let rotation = tokio::spawn({
        let supervisor = lab.supervisor.clone();
        async move { supervisor.rotate_now("login").await }
    });
    while pool.generation() == 1 {
        sleep(Duration::from_millis(100)).await;
        assert!(
            began.elapsed() < lifetime,
            "the first user expired before it was replaced"
        );
    }
    assert_eq!(
        created.load(Ordering::Acquire),
        3,
        "the hazard: the second user was created"
    );
    // Not at the first rejection, because a replica may not have the user yet.
    assert!(
        began.elapsed() > Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    rotation
        .await
        .expect("no panic")
        .expect("another user serves");
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_fails_with_new_credentials_leaves_the_pool_with_the_old_ones() {
    let keep = ScriptedProvider::new().with_old_connections(OldConnections::Keep);
    let scripted = Scripted::with(keep).await;
    let no_role = ConnectError::new(ConnectErrorKind::Misconfigured, "permission denied");
    scripted
        .database
        .fail_next_verifications_as_pool(3, no_role);
    scripted.provider.rotate();
    scripted.provider.hint();
    while scripted.database.verifications().len() < 4 {
        sleep(Duration::from_millis(10)).await;
        let pool = scripted.pool.current();
        assert_eq!(
            pool.password(),
            "password-1",
            "new connections log in with it"
        );
    }
    sleep(Duration::from_secs(60)).await;
    assert_eq!(scripted.pool.generation(), 2, "the hook works again");
    assert_eq!(scripted.pool.current().password(), "password-2");
    assert_eq!(scripted.database.opened().len(), 1, "the hazard: in place");
}
