//! Law 11: all rejected revisions of one database user cost at most `max_connections + 3` failed
//! logins per pool and window.

use std::time::Duration;

use claviger::lease::OldConnections;
use tokio::time::Instant;

use crate::callers::Callers;
use crate::fixture::{Fixture, eventually_within};
use crate::{PgKind, Settings};

pub async fn law_11_failed_logins_stay_within_the_budget<K: PgKind>() {
    let settings = Settings {
        acquire_timeout: Duration::from_secs(1),
        ..Settings::of(4)
    };
    let fixture = Fixture::<K>::new(OldConnections::Drain, settings).await;
    let callers = Callers::start::<K>(&fixture.pool, 16);
    callers.wait_for_more(100).await;
    fixture.set_password("another password");
    fixture.terminate_connections();
    let began = Instant::now();
    eventually_within(
        Duration::from_secs(20),
        "the hazard: callers call again and again for 11 s",
        || began.elapsed() > Duration::from_secs(11) && callers.failures() > 1_000,
    )
    .await;
    let failed = fixture.failed_logins();
    assert!(
        (2..=7).contains(&failed),
        "{failed} failed logins with a maximum of 4"
    );
    // The pool recovers without a restart.
    fixture.set_password("password-1");
    callers.wait_for_more(100).await;
    drop(callers.stop().await);
}
