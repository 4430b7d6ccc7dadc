//! Runs the service and the script, and prints events and results.

use std::time::Duration;

use claviger::events::Events;
use claviger::{Handle, Supervisor};
use tokio::signal::unix::{SignalKind, signal};

use crate::database::Orders;
use crate::screen::Screen;
use crate::script::Script;
use crate::service::Service;
use crate::{LONGEST_WAIT, Problem};

/// Queries through the handles until the script has ended. Returns whether the demo succeeded.
pub(crate) async fn show<P: Orders>(
    screen: &Screen,
    supervisor: &Supervisor,
    mut events: Events,
    pools: &[Handle<P>],
    script: Script,
) -> Result<bool, Problem> {
    let service = Service::start(pools);
    let tally = {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.tick().await;
        let (mut terminate, mut hangup) = (
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        );
        let ended = script.finished();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                tally = &mut ended => break tally,
                Some(event) = events.next() => screen.event(&event),
                _ = second.tick() => screen.progress(pools, &service),
                _ = tokio::signal::ctrl_c() => script.stop(),
                _ = terminate.recv() => script.stop(),
                _ = hangup.recv() => script.stop(),
            }
        }
    };
    let count = service.stop().await;
    let report = supervisor.shutdown(Duration::from_secs(10)).await;
    while let Some(event) = events.next().await {
        screen.event(&event);
    }
    if !report.clean {
        screen.line(&format!("the shutdown was incomplete: {report:?}"));
    }
    for failure in count.failures.iter().take(5) {
        screen.line(&format!("failed: {failure}"));
    }
    for problem in &tally.problems {
        screen.line(&format!("problem: {problem}"));
    }
    for line in &tally.summary {
        screen.line(line);
    }
    screen.set_result_line(format!(
        "demo: {} queries, {} rotations, {} failed, longest wait {} ms",
        count.queries,
        tally.adopted,
        count.failures.len(),
        count.longest_wait.as_millis()
    ));
    let is_complete =
        tally.changes > 0 && tally.adopted == tally.changes && tally.problems.is_empty();
    Ok(is_complete
        && count.queries > 0
        && count.failures.is_empty()
        && count.longest_wait < LONGEST_WAIT
        && report.clean)
}
