//! From the rejection to the first answer.

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
const REST: Duration = Duration::from_millis(10);

#[derive(Clone, Copy)]
pub(crate) enum Case {
    /// The database has the new password, and `AWSCURRENT` is moved after this time.
    Window(Duration),
    /// The database has the new password, and so has the store.
    Changed,
}

impl Case {
    fn name(self) -> String {
        match self {
            Self::Window(window) => format!("window of {} s", window.as_secs()),
            Self::Changed => "changed password".to_owned(),
        }
    }

    /// The store calls that cannot be saved.
    fn calls(self) -> usize {
        match self {
            Self::Window(_) => 2,
            Self::Changed => 1,
        }
    }
}

pub(crate) async fn measure(figures: &mut Figures, case: Case, turns: usize) {
    let fixture = SecretsFixture::<Postgres>::new(Users::Single).await;
    let supervisor = &fixture.database.supervisor;
    let login = supervisor
        .add_provider(
            "login",
            SecretsManager::new(&fixture.aws(), SECRET).expect("it can be right"),
        )
        .await
        .expect("a lease");
    let db = supervisor
        .add_pool("orders", &login, fixture.database.pools(CONNECTIONS))
        .await
        .expect("verified");
    let callers = Arc::new(Callers::start_with_pause(&db, CALLERS, "SELECT 1", REST));
    callers.wait_for_more(200).await;
    let (mut ratios, mut since_rejection, mut since_cut, mut floors) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut bad, mut asked) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        let (bad_before, asked_before) =
            (fixture.database.rejected_logins(), fixture.value_requests());
        let pending = fixture.open_window().await;
        if matches!(case, Case::Changed) {
            fixture.close_window(&pending).await;
        }
        // Before the connections are cut: it is over before whoever cuts them says so.
        let (mut events, watched, handle, before) = (
            supervisor.events(),
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
            // What the last live connections still answer does not count.
            while handle.generation() == before {
                sleep(Duration::from_millis(1)).await;
            }
            let goal = watched.succeeded() + 1;
            while watched.succeeded() < goal {
                sleep(Duration::from_millis(1)).await;
            }
            (rejected, Instant::now())
        });
        let cut = Instant::now();
        // All at once, without waiting for each.
        fixture
            .database
            .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
            .await;
        let (rejected, answered) = again.await.expect("no panic");
        if let Case::Window(window) = case {
            sleep_until(cut + window).await;
            fixture.close_window(&pending).await;
        }
        callers.wait_for_more(50).await;
        let floor = floor(&fixture, case, &pending.password).await;
        ratios.push((answered - rejected).as_secs_f64() / floor.as_secs_f64());
        since_rejection.push(ms(answered - rejected));
        since_cut.push(ms(answered - cut));
        floors.push(ms(floor));
        bad.push((fixture.database.rejected_logins() - bad_before) as f64);
        asked.push((fixture.value_requests() - asked_before) as f64 - (case.calls() + 1) as f64);
    }
    let tally = Arc::into_inner(callers)
        .expect("nobody else watches")
        .stop()
        .await;
    let name = case.name();
    figures.at_most(
        &format!(
            "{name}: rejected → serving again / ({} store calls + two logins), median",
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
        &format!("{name}: connections cut → serving again, ms"),
        median(&mut since_cut),
    );
    figures.for_comparison(
        &format!("{name}: {} store calls + two logins, ms", case.calls()),
        median(&mut floors),
    );
    let most = if matches!(case, Case::Changed) {
        1.0
    } else {
        3.0
    };
    figures.at_most(
        &format!("{name}: store calls, most"),
        asked.iter().copied().fold(0.0, f64::max),
        most,
    );
    figures.at_most(
        &format!("{name}: failed logins, most"),
        bad.iter().copied().fold(0.0, f64::max),
        f64::from(CONNECTIONS + 3),
    );
    figures.at_most(
        &format!("{name}: failed logins, median"),
        median(&mut bad),
        3.0,
    );
    figures.at_most(
        &format!("{name}: failed calls of {}", tally.succeeded),
        tally.failed.len() as f64,
        0.0,
    );
    figures.for_comparison(
        &format!("{name}: statements that the cut interrupted"),
        tally.interrupted as f64,
    );
    supervisor.shutdown(Duration::from_secs(5)).await;
}

/// What cannot be saved: the store's calls, one after the other, the verification and the first
/// connection. Measured beside it, while the callers go on.
async fn floor(fixture: &SecretsFixture<Postgres>, case: Case, password: &str) -> Duration {
    let client = Client::new(&fixture.aws());
    let ask = async || {
        client
            .get_secret_value()
            .secret_id(SECRET)
            .version_stage("AWSCURRENT")
            .send()
            .await
            .expect("it answers")
    };
    // The first call of a client connects; the service's client was connected, too.
    ask().await;
    let began = Instant::now();
    for _ in 0..case.calls() {
        ask().await;
    }
    let login = fixture
        .database
        .connect_options()
        .username("app")
        .password(password);
    let mut took = began.elapsed();
    for _ in 0..2 {
        let began = Instant::now();
        let mut connection = login.connect().await.expect("it is accepted");
        connection
            .execute("SELECT current_user")
            .await
            .expect("it answers");
        connection.close().await.expect("it closes");
        took += began.elapsed();
    }
    took
}
