//! From the rejection to the first answer, beside what cannot be saved: one store round trip and
//! two verified logins.

use std::time::Duration;

use claviger::Event;
use claviger_fixtures::{Fixture, eventually};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::time::{Instant, sleep};

use claviger_fixtures::{Figures, median, ms};

const TURNS: usize = 12;
/// Time between a verification and the next change of the password. A rejection within 10 s of a
/// verification is answered by verifying the same credentials again first, which is one more login.
const WORKS_FOR: Duration = Duration::from_millis(10_300);

pub(crate) async fn measure(figures: &mut Figures) {
    let fixture = Fixture::new().await;
    let db = fixture.pool(10).await;
    let (mut ratios, mut ours, mut floors) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        sqlx::query("SELECT 1")
            .execute(&db)
            .await
            .expect("it serves");
        let before = db.generation();
        let mut events = fixture.supervisor.events();
        let password = fixture.provider.rotate();
        fixture.set_password(&password).await;
        let credentials = fixture
            .connect_options()
            .username("app")
            .password(&password);
        // After ten idle seconds the first login is slower, whoever opens it.
        verified_logins(&credentials).await;
        fixture.terminate_connections().await;
        eventually("the idle connections are gone", || {
            fixture
                .server
                .connection_count("app")
                .is_ok_and(|count| count == 0)
        })
        .await;
        // The cut connections are found and dropped, and the rejection comes.
        let rejected = tokio::spawn(async move {
            loop {
                if let Some(Event::Rejected { .. }) = events.next().await {
                    return Instant::now();
                }
            }
        });
        while let Err(error) = sqlx::query("SELECT 1").execute(&db).await {
            assert!(
                matches!(error, sqlx::Error::Io(_)),
                "what the server did not interrupt: {error}"
            );
        }
        let answered = Instant::now();
        let took = answered.saturating_duration_since(rejected.await.expect("it was rejected"));
        assert!(db.generation() > before, "it was rotated");
        // What cannot be saved: the verification and the first connection. The store answers from
        // memory.
        let began = Instant::now();
        verified_logins(&credentials).await;
        let floor = began.elapsed();
        ratios.push(took.as_secs_f64() / floor.as_secs_f64());
        ours.push(ms(took));
        floors.push(ms(floor));
        sleep(WORKS_FOR).await;
    }
    figures.at_most(
        "rejected → serving again / (store + two verified logins), median",
        median(&mut ratios),
        1.2,
    );
    figures.for_comparison("rejected → serving again, ms", median(&mut ours));
    figures.for_comparison("two verified logins, ms", median(&mut floors));
}

/// Logs in twice, with a statement each.
async fn verified_logins(credentials: &PgConnectOptions) {
    for _ in 0..2 {
        let mut connection = credentials.connect().await.expect("it is accepted");
        connection
            .execute("SELECT current_user")
            .await
            .expect("it returns a row");
        connection.close().await.expect("it closes");
    }
}
