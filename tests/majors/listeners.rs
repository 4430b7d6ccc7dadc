//! Listeners for `NOTIFY` listen again after their connection was terminated.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use claviger::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::fixtures::pools::PgPools;
use super::fixtures::sqlx::{self, Error};
use super::fixtures::{Fixture, until_rejected};

const MAX: u32 = 4;
/// Longer than any step here, shorter than a hanging test may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Forwards each notification. Listens again at once after an error.
async fn listen(db: Handle<PgPools>, payloads: mpsc::UnboundedSender<String>) {
    while !db.is_closed() {
        let _ = listen_once(&db, &payloads).await;
        tokio::task::yield_now().await;
    }
}

async fn listen_once(
    db: &Handle<PgPools>,
    payloads: &mpsc::UnboundedSender<String>,
) -> Result<(), Error> {
    let mut changed = std::pin::pin!(db.changed());
    let mut listener = db.listener().await?;
    listener.listen("orders").await?;
    loop {
        tokio::select! {
            biased;
            _ = &mut changed => return Ok(()),
            notification = listener.try_recv() => match notification? {
                Some(notification) => {
                    let _ = payloads.send(notification.payload().to_owned());
                }
                None => return Ok(()),
            },
        }
    }
}

/// Calls without a pause.
async fn call(db: Handle<PgPools>) {
    loop {
        let _ = sqlx::query("SELECT pg_sleep(0.005)").execute(&db).await;
        tokio::task::yield_now().await;
    }
}

/// Notifies until the notification is received, because nobody may listen at that moment.
async fn until_received(
    fixture: &Fixture,
    payload: &str,
    payloads: &mut mpsc::UnboundedReceiver<String>,
) {
    let received = async {
        loop {
            let sql = format!("NOTIFY orders, '{payload}'");
            fixture.sql(&sql).await;
            sleep(Duration::from_millis(100)).await;
            while let Ok(received) = payloads.try_recv() {
                if received == payload {
                    return;
                }
            }
        }
    };
    timeout(PATIENCE, received)
        .await
        .expect("within the timeout");
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_that_listen_again_stay_within_the_login_budget() {
    let fixture = Fixture::new().await;
    let options = fixture
        .pool_options(MAX)
        .acquire_timeout(Duration::from_millis(200));
    let db = fixture.pool_with(options).await;
    let (sender, mut payloads) = mpsc::unbounded_channel();
    let listening: Vec<_> = (0..3)
        .map(|_| tokio::spawn(listen(db.clone(), sender.clone())))
        .collect();
    until_received(&fixture, "first", &mut payloads).await;
    let callers: Vec<_> = (0..16).map(|_| tokio::spawn(call(db.clone()))).collect();
    sleep(Duration::from_millis(500)).await;

    // The connections that remain are shared by the callers.
    fixture.set_password("no lease has this one").await;
    let listeners =
        "SELECT pid FROM pg_stat_activity WHERE usename = 'app' AND query LIKE 'LISTEN%'";
    fixture
        .sql(&format!(
            "SELECT pg_terminate_backend(pid) FROM ({listeners}) AS listeners"
        ))
        .await;
    until_rejected(&db).await;
    let began = Instant::now();
    sleep(Duration::from_secs(5)).await;
    let rejected = fixture.rejected_logins();
    assert!(
        rejected <= MAX as usize + 3 || began.elapsed() > Duration::from_secs(30),
        "{rejected} failed logins in a window"
    );

    let password = fixture.provider.rotate();
    fixture.provider.hint();
    fixture.set_password(&password).await;
    until_received(&fixture, "second", &mut payloads).await;
    for task in listening.into_iter().chain(callers) {
        task.abort();
    }
}
