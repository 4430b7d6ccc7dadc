//! A backend that is down: callers are not affected.

use std::time::Duration;

use claviger::Supervisor;
use claviger::events::Event;
use claviger_fixtures::{Callers, Figures};
use claviger_rotator::Users;
use claviger_secrets_fixtures::{SECRET, SecretsFixture};
use claviger_secrets_manager::SecretsManager;
use claviger_servers::{InjectedFault, Postgres};
use tokio::time::sleep;

pub(crate) async fn measure(figures: &mut Figures, time: Duration) {
    // Polled each second, so that fetches fail.
    let builder = Supervisor::builder().with_poll_interval(Duration::from_secs(1));
    let fixture = SecretsFixture::<Postgres>::with_builder(Users::Single, builder).await;
    let mut events = fixture.database.supervisor.events();
    let provider = SecretsManager::new(&fixture.aws(), SECRET).expect("the settings are valid");
    let db = fixture.pool(provider, fixture.database.pools(10)).await;
    let callers = Callers::start_with_pause(&db, 16, "SELECT 1", Duration::from_millis(10));
    callers.wait_for_more(200).await;
    fixture.proxy.fault(InjectedFault::Refuse);
    sleep(time).await;
    fixture.proxy.heal();
    let tally = callers.stop().await;
    fixture.shutdown().await;
    let mut failed_fetches = 0_u32;
    while let Some(event) = events.next().await {
        failed_fetches += u32::from(matches!(event, Event::FetchFailed { .. }));
    }
    let name = format!("backend down for {} s", time.as_secs());
    figures.at_least(
        &format!("{name}: failed fetches"),
        f64::from(failed_fetches),
        1.0,
    );
    figures.at_most(
        &format!("{name}: failed calls of {}", tally.succeeded),
        tally.failed.len() as f64 + tally.interrupted as f64,
        0.0,
    );
    figures.at_most(&format!("{name}: generations"), db.generation() as f64, 1.0);
}
