//! Runs the services and the script, and prints events and results.

use std::sync::Arc;
use std::time::Duration;

use claviger::events::Events;
use claviger::pool::PoolFactory;
use claviger::{Handle, Supervisor};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::options::Options;
#[cfg(feature = "page")]
use crate::page::StatusPage;
use crate::screen::{Connections, Outcome, Progress, Screen};
use crate::script::Script;
use crate::service::{Counters, Service};
use crate::timeline::{Calls, Sample, Timeline};
use crate::{LONGEST_WAIT, Problem};

/// Interval of the samples of the timeline.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);
/// Number of samples for each line of progress.
const SAMPLES_PER_LINE: u32 = 4;

/// The service on the supervised pools, and the one on a plain pool beside it.
pub(crate) struct Services {
    /// Name of what a call executes, in the plural.
    pub(crate) calls: &'static str,
    /// Whether all callers of a pool share one connection.
    pub(crate) shared: bool,
    pub(crate) supervised: Service,
    pub(crate) plain: Service,
}

/// Runs the services until the script has ended. Returns whether the demo succeeded.
pub(crate) async fn show<P: PoolFactory>(
    screen: &Screen,
    options: &Options,
    supervisor: &Supervisor,
    mut events: Events,
    pools: &[Handle<P>],
    services: Services,
    script: Script,
) -> Result<bool, Problem> {
    #[cfg(feature = "page")]
    let _page = if options.page {
        Some(StatusPage::serve(screen, supervisor).await?)
    } else {
        None
    };
    #[cfg(not(feature = "page"))]
    let _ = options;
    let calls = services.calls;
    let supervised = Arc::clone(services.supervised.counters());
    let plain = Arc::clone(services.plain.counters());
    let sample = || Sample {
        step: script.step(),
        generation: pools.iter().map(Handle::generation).max().unwrap_or(0),
        supervised: counted(&supervised),
        plain: counted(&plain),
    };
    screen.line("both repeat a read whose connection was killed, and no failed login");
    let mut timeline = Timeline::new(SAMPLE_INTERVAL, sample());
    let mut tally = {
        let mut ticks = interval_at(Instant::now() + SAMPLE_INTERVAL, SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut samples, mut last, mut connections) = (0, sample(), 0);
        // Kept over all rounds: a signal between two of them would be lost.
        let (mut interrupt, mut terminate, mut hangup) = (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        );
        let ended = script.finished();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                tally = &mut ended => break tally,
                Some(event) = events.next() => screen.event(&event),
                _ = ticks.tick() => {
                    if let Some(error) = plain.first_failure() {
                        screen.plain_pool_failed(&error);
                    }
                    let now = sample();
                    timeline.add(now);
                    connections = connections.max(open_connections(pools));
                    samples += 1;
                    if samples % SAMPLES_PER_LINE == 0 {
                        screen.progress(&Progress {
                            calls,
                            generations: pools.iter().map(Handle::generation).collect(),
                            rate: now.supervised.succeeded - last.supervised.succeeded,
                            connections: if services.shared {
                                Connections::Shared
                            } else {
                                Connections::Open(connections)
                            },
                            failed: now.supervised.failed,
                            plain: Calls {
                                succeeded: now.plain.succeeded - last.plain.succeeded,
                                failed: now.plain.failed,
                            },
                        });
                        (last, connections) = (now, 0);
                    }
                }
                _ = interrupt.recv() => script.stop(),
                _ = terminate.recv() => script.stop(),
                _ = hangup.recv() => script.stop(),
            }
        }
    };
    let stopping = services.supervised.stop();
    screen.while_waiting("stopping the service", stopping).await;
    let stopping = services.plain.stop();
    screen
        .while_waiting("stopping the plain pool", stopping)
        .await;
    let report = supervisor.shutdown(Duration::from_secs(10));
    let report = screen.while_waiting("shutting down", report).await;
    while let Some(event) = events.next().await {
        screen.event(&event);
    }
    if !report.clean {
        screen.line(&format!("the shutdown was incomplete: {report:?}"));
    }
    if plain.failed() == 0 {
        tally.problem("the plain pool did not fail, so nothing was compared");
    }

    screen.picture("");
    for line in timeline.draw(calls) {
        screen.picture(&line);
    }
    screen.picture("");
    for line in &tally.table {
        screen.picture(line);
    }
    if !tally.table.is_empty() {
        screen.picture("");
    }
    for line in &tally.summary {
        screen.line(line);
    }
    screen.line(&format!(
        "longest call: {} ms; reads repeated after a kill: {}, on the plain pool {}",
        supervised.longest().as_millis(),
        supervised.repeated(),
        plain.repeated(),
    ));
    for failure in supervised.failures() {
        screen.line(&format!("failed: {failure}"));
    }
    for problem in &tally.problems {
        screen.problem(problem);
    }
    screen.set_result(Outcome {
        calls,
        supervised: counted(&supervised),
        plain: counted(&plain),
        rotations: tally.adopted,
        longest: supervised.longest(),
        repeated: supervised.repeated(),
        plain_repeated: plain.repeated(),
    });
    let is_complete =
        tally.changes > 0 && tally.adopted == tally.changes && tally.problems.is_empty();
    Ok(is_complete
        && supervised.succeeded() > 0
        && supervised.failed() == 0
        && supervised.longest() < LONGEST_WAIT
        && report.clean)
}

fn counted(counters: &Counters) -> Calls {
    Calls {
        succeeded: counters.succeeded(),
        failed: counters.failed(),
    }
}

/// Returns the number of open connections of the current generations.
fn open_connections<P: PoolFactory>(pools: &[Handle<P>]) -> u32 {
    pools
        .iter()
        .filter_map(Handle::status)
        .map(|status| status.connections)
        .sum()
}
