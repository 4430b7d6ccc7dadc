//! Time from the rejection to the first successful query, compared with the minimum. The minimum is
//! one fetch, a verified login, and a login that runs the caller's query.

use std::time::Duration;

use claviger::events::Event;
use claviger_fixtures::{Fixture, eventually};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::time::{Instant, sleep};

use claviger_fixtures::{Figures, median, ms};

const ROTATIONS: usize = 12;
/// The caller's query. Each new connection prepares it.
const QUERY: &str = "SELECT 1";
/// Time between a verification and the next change of the password. After a rejection within 10 s
/// of a verification, the same credentials are verified again first, by one more login.
const BETWEEN_CHANGES: Duration = Duration::from_millis(10_300);

pub(crate) async fn measure(figures: &mut Figures) {
    let fixture = Fixture::new().await;
    let db = fixture.pool(10).await;
    let (mut ratios, mut ours, mut minima) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROTATIONS {
        sqlx::query(QUERY)
            .execute(&db)
            .await
            .expect("the query succeeds");
        let before = db.generation();
        let mut events = fixture.supervisor.events();
        let password = fixture.provider.rotate();
        fixture.set_password(&password).await;
        let options = fixture
            .connect_options()
            .username("app")
            .password(&password);
        // The first login after ten idle seconds is slower, on any pool.
        verified_logins(&options).await;
        fixture.terminate_connections().await;
        eventually("the idle connections are gone", || {
            fixture
                .server
                .connection_count("app")
                .is_ok_and(|count| count == 0)
        })
        .await;
        // The handle discards the terminated connections, then logs in and is rejected.
        let rejected = tokio::spawn(async move {
            loop {
                if let Some(Event::Rejected { .. }) = events.next().await {
                    return Instant::now();
                }
            }
        });
        while let Err(error) = sqlx::query(QUERY).execute(&db).await {
            assert!(
                matches!(error, sqlx::Error::Io(_)),
                "not an interruption by the server: {error}"
            );
        }
        let succeeded = Instant::now();
        let took = succeeded.saturating_duration_since(rejected.await.expect("rejected"));
        assert!(db.generation() > before, "the credentials were rotated");
        // The minimum: the verification and the first connection. The scripted backend returns at
        // once.
        let began = Instant::now();
        verified_logins(&options).await;
        let minimum = began.elapsed();
        ratios.push(took.as_secs_f64() / minimum.as_secs_f64());
        ours.push(ms(took));
        minima.push(ms(minimum));
        sleep(BETWEEN_CHANGES).await;
    }
    figures.at_most(
        "rejected → serving again / (fetch + two verified logins), median",
        median(&mut ratios),
        1.2,
    );
    figures.for_comparison("rejected → serving again, ms", median(&mut ours));
    figures.for_comparison("two verified logins, ms", median(&mut minima));
}

/// Logs in, probes the connection and closes it, as a verification does.
pub(crate) async fn verified_login(options: &PgConnectOptions) {
    let mut connection = options.connect().await.expect("the login is accepted");
    connection
        .execute("SELECT current_user, session_user")
        .await
        .expect("a row");
    connection.close().await.expect("the connection closes");
}

/// Logs in twice: once for a verification, and once for the caller's query.
async fn verified_logins(options: &PgConnectOptions) {
    verified_login(options).await;
    let mut connection = options.connect().await.expect("the login is accepted");
    connection.ping().await.expect("the connection works");
    sqlx::query(QUERY)
        .execute(&mut connection)
        .await
        .expect("a row");
    connection.close().await.expect("the connection closes");
}
