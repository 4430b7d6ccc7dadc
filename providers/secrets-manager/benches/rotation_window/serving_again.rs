//! Time from the rejection to the first successful query.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use claviger::events::Event;
use claviger_fixtures::{Callers, Figures, median, ms};
use claviger_rotator::Users;
use claviger_secrets_fixtures::{SECRET, SecretsFixture};
use claviger_secrets_manager::SecretsManager;
use claviger_servers::Postgres;
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::time::{Instant, sleep, sleep_until};

const CALLERS: usize = 16;
const CONNECTIONS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Clone, Copy)]
pub(crate) enum Case {
    /// The database has the new password, and `AWSCURRENT` is moved after this time.
    Window(Duration),
    /// Both the database and the backend have the new password.
    Changed,
}

impl Case {
    fn name(self) -> String {
        match self {
            Self::Window(window) => format!("window of {} s", window.as_secs()),
            Self::Changed => "changed password".to_owned(),
        }
    }

    /// Returns the minimum number of calls to the backend.
    fn calls(self) -> usize {
        match self {
            Self::Window(_) => 2,
            Self::Changed => 1,
        }
    }
}

pub(crate) async fn measure(figures: &mut Figures, case: Case, rotations: usize) {
    let fixture = SecretsFixture::<Postgres>::new(Users::Single).await;
    let provider = SecretsManager::new(&fixture.aws(), SECRET).expect("the settings are valid");
    let db = fixture
        .pool(provider, fixture.database.pools(CONNECTIONS))
        .await;
    let callers = Arc::new(Callers::start_with_pause(&db, CALLERS, "SELECT 1", PAUSE));
    callers.wait_for_more(200).await;
    let (mut ratios, mut since_rejection, mut since_termination, mut minima) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut rejected_logins, mut requests) = (Vec::new(), Vec::new());
    for _ in 0..rotations {
        let (rejected_before, requests_before) =
            (fixture.database.rejected_logins(), fixture.value_requests());
        let pending = fixture.open_window().await;
        if matches!(case, Case::Changed) {
            fixture.close_window(&pending).await;
        }
        // Started before the connections are terminated, because the pool may serve again before
        // the statement that terminates them returns.
        let (mut events, watched, handle, before) = (
            fixture.database.supervisor.events(),
            Arc::clone(&callers),
            db.clone(),
            db.generation(),
        );
        let again = tokio::spawn(async move {
            while !matches!(
                events.next().await.expect("it is rejected"),
                Event::Rejected { .. }
            ) {}
            let rejected = Instant::now();
            // Queries on the last open connections do not count.
            while handle.generation() == before {
                sleep(Duration::from_millis(1)).await;
            }
            let goal = watched.succeeded() + 1;
            while watched.succeeded() < goal {
                sleep(Duration::from_millis(1)).await;
            }
            (rejected, Instant::now())
        });
        let terminated = Instant::now();
        // All connections in one statement.
        fixture
            .database
            .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
            .await;
        let (rejected, served) = again.await.expect("no panic");
        if let Case::Window(window) = case {
            sleep_until(terminated + window).await;
            fixture.close_window(&pending).await;
        }
        callers.wait_for_more(50).await;
        let minimum = minimum(&fixture, case, &pending.password).await;
        ratios.push((served - rejected).as_secs_f64() / minimum.as_secs_f64());
        since_rejection.push(ms(served - rejected));
        since_termination.push(ms(served - terminated));
        minima.push(ms(minimum));
        rejected_logins.push((fixture.database.rejected_logins() - rejected_before) as f64);
        requests
            .push((fixture.value_requests() - requests_before) as f64 - (case.calls() + 1) as f64);
    }
    let tally = Arc::into_inner(callers)
        .expect("no other task uses the callers")
        .stop()
        .await;
    let name = case.name();
    figures.at_most(
        &format!(
            "{name}: rejected → serving again / ({} backend calls + two logins), median",
            case.calls()
        ),
        median(&mut ratios),
        1.2,
    );
    figures.for_comparison(
        &format!("{name}: rejected → serving again, ms"),
        median(&mut since_rejection),
    );
    figures.for_comparison(
        &format!("{name}: connections terminated → serving again, ms"),
        median(&mut since_termination),
    );
    figures.for_comparison(
        &format!("{name}: {} backend calls + two logins, ms", case.calls()),
        median(&mut minima),
    );
    let most = if matches!(case, Case::Changed) {
        1.0
    } else {
        3.0
    };
    figures.at_most(
        &format!("{name}: backend calls, most"),
        requests.iter().copied().fold(0.0, f64::max),
        most,
    );
    figures.at_most(
        &format!("{name}: failed logins, most"),
        rejected_logins.iter().copied().fold(0.0, f64::max),
        f64::from(CONNECTIONS + 3),
    );
    figures.at_most(
        &format!("{name}: failed logins, median"),
        median(&mut rejected_logins),
        3.0,
    );
    figures.at_most(
        &format!("{name}: failed calls of {}", tally.succeeded),
        tally.failed.len() as f64,
        0.0,
    );
    figures.for_comparison(
        &format!("{name}: statements that the server interrupted"),
        tally.interrupted as f64,
    );
    fixture.shutdown().await;
}

/// Measures the minimum while the callers continue: the backend's calls in sequence, the
/// verification and the first connection.
async fn minimum(fixture: &SecretsFixture<Postgres>, case: Case, password: &str) -> Duration {
    let client = Client::new(&fixture.aws());
    let request = async || {
        client
            .get_secret_value()
            .secret_id(SECRET)
            .version_stage("AWSCURRENT")
            .send()
            .await
            .expect("it responds")
    };
    // The first call of a client connects. The service's client was connected before.
    request().await;
    let began = Instant::now();
    for _ in 0..case.calls() {
        request().await;
    }
    let options = fixture
        .database
        .connect_options()
        .username("app")
        .password(password);
    let mut took = began.elapsed();
    for _ in 0..2 {
        let began = Instant::now();
        let mut connection = options.connect().await.expect("it is accepted");
        connection
            .execute("SELECT current_user")
            .await
            .expect("it responds");
        connection.close().await.expect("it closes");
        took += began.elapsed();
    }
    took
}
