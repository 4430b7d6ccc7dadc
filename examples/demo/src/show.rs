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
use crate::screen::{Progress, Screen};
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
    pub(crate) supervised: Service,
    pub(crate) plain: Option<Service>,
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
    let plain = services.plain.as_ref().map(Service::counters).cloned();
    let sample = || Sample {
        step: script.step(),
        generation: pools.iter().map(Handle::generation).max().unwrap_or(0),
        supervised: counted(&supervised),
        plain: plain.as_deref().map(counted),
    };
    let mut timeline = Timeline::new(SAMPLE_INTERVAL, sample());
    let mut tally = {
        let mut ticks = interval_at(Instant::now() + SAMPLE_INTERVAL, SAMPLE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut samples, mut last) = (0, sample());
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
                    if let Some(error) = plain.as_ref().and_then(|plain| plain.first_failure()) {
                        screen.failure(&format!("  plain pool fails: {error}"));
                    }
                    let now = sample();
                    timeline.add(now);
                    samples += 1;
                    if samples % SAMPLES_PER_LINE == 0 {
                        screen.progress(&progress(pools, calls, &last, &now));
                        last = now;
                    }
                }
                _ = interrupt.recv() => script.stop(),
                _ = terminate.recv() => script.stop(),
                _ = hangup.recv() => script.stop(),
            }
        }
    };
    services.supervised.stop().await;
    if let Some(plain) = services.plain {
        screen
            .while_waiting("stopping the plain pool", plain.stop())
            .await;
    }
    let report = supervisor.shutdown(Duration::from_secs(10));
    let report = screen.while_waiting("shutting down", report).await;
    while let Some(event) = events.next().await {
        screen.event(&event);
    }
    if !report.clean {
        screen.line(&format!("the shutdown was incomplete: {report:?}"));
    }
    if plain.as_ref().is_some_and(|plain| plain.failed() == 0) {
        tally.problem("the plain pool did not fail, so nothing was compared");
    }

    screen.line("");
    for line in timeline.draw(calls) {
        screen.line(&line);
    }
    screen.line("");
    for line in &tally.summary {
        screen.line(line);
    }
    screen.line(&format!(
        "longest call: {} ms; calls repeated after a lost connection: {}",
        supervised.longest().as_millis(),
        supervised.repeated(),
    ));
    for failure in supervised.failures() {
        screen.line(&format!("failed: {failure}"));
    }
    for problem in &tally.problems {
        screen.line(&format!("problem: {problem}"));
    }
    let mut result = format!(
        "demo: {} {calls}, {} rotations, {} failed",
        supervised.succeeded(),
        tally.adopted,
        supervised.failed(),
    );
    if let Some(plain) = &plain {
        result.push_str(&format!("; the plain pool: {} failed", plain.failed()));
    }
    screen.set_result_line(result);
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

fn progress<P: PoolFactory>(
    pools: &[Handle<P>],
    calls: &'static str,
    last: &Sample,
    now: &Sample,
) -> Progress {
    let generations: Vec<_> = pools
        .iter()
        .map(|pool| pool.generation().to_string())
        .collect();
    Progress {
        calls,
        generations: generations.join(" and "),
        rate: now.supervised.succeeded - last.supervised.succeeded,
        connections: pools
            .iter()
            .filter_map(Handle::status)
            .map(|status| status.connections)
            .sum(),
        failed: now.supervised.failed,
        plain: now.plain.zip(last.plain).map(|(now, last)| Calls {
            succeeded: now.succeeded - last.succeeded,
            failed: now.failed,
        }),
    }
}
