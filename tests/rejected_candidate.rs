//! A candidate that cannot be verified, while what serves has an end.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use claviger::{
    Credentials, Expiry, FetchRequest, Fetched, Lease, OldConnections, ProviderError, Revision,
    RotationTrigger, provider_fn,
};
use claviger_testkit::{Lab, ScriptedPools};
use tokio::time::{Instant, sleep};

/// As a backend of users does: it renews what is held, and makes another user by hand or where that
/// one is rejected.
#[tokio::test(start_paused = true)]
async fn a_user_whom_the_database_goes_on_refusing_is_replaced_before_the_one_who_serves_dies() {
    let (lab, database) = (Lab::new(), ScriptedPools::new(4));
    let made = Arc::new(AtomicU32::new(0));
    let life = Duration::from_secs(60);
    let issuer = provider_fn({
        let made = Arc::clone(&made);
        move |request: FetchRequest<Credentials>| {
            let expiry = Expiry::after(request.started, life);
            let renewed = request.held.as_ref().filter(|held| {
                request.trigger != RotationTrigger::Manual && !request.is_rejected(held.revision())
            });
            let fetched = renewed
                .map(|_| Fetched::Renewed(expiry))
                .unwrap_or_else(|| {
                    let user = format!("user-{}", made.fetch_add(1, Ordering::AcqRel) + 1);
                    let credentials = Credentials::new(user.clone(), format!("password-of-{user}"));
                    Lease::new(credentials, Revision::new(user))
                        .with_expiry(expiry)
                        .with_old_connections(OldConnections::EndWithLease)
                        .into()
                });
            async move { Ok::<_, ProviderError>(fetched) }
        }
    });
    let credentials = lab
        .supervisor
        .add_provider("login", issuer)
        .await
        .expect("it starts");
    let pool = lab
        .supervisor
        .add_pool("pool", &credentials, database.clone())
        .await
        .expect("it is verified");
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
            began.elapsed() < life,
            "the first user is dead, and the second one renewed"
        );
    }
    assert_eq!(
        made.load(Ordering::Acquire),
        3,
        "the hazard: the second one was made"
    );
    // Not at the first rejection: a replica may not have heard of the user yet.
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
