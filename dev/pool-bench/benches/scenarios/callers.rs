//! Callers without retries, and what they measure.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use claviger_fixtures::median;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Pause of a caller after an error. Errors that are returned at once would starve other callers.
const PAUSE: Duration = Duration::from_millis(10);

/// Time from the start to the first change. Medians are of this time, because failing callers later
/// leave CPU time to others.
pub(crate) const CHANGE: Duration = Duration::from_secs(3);

/// Results of one pool in one scenario.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) served: usize,
    pub(crate) failed: usize,
    /// Number of failed calls for each error text.
    pub(crate) errors: BTreeMap<String, usize>,
    /// Longest time without a served call, up to the end of the scenario.
    pub(crate) longest_outage_ms: f64,
    /// Median of the calls before [`CHANGE`].
    pub(crate) median_us: f64,
    pub(crate) failed_logins: u64,
    /// Fetches of the secret's value.
    pub(crate) fetches: usize,
}

/// The calls of one caller.
#[derive(Default)]
struct Calls {
    /// End and duration of each served call.
    served: Vec<(Instant, Duration)>,
    /// Number of failed calls for each error text.
    errors: BTreeMap<String, usize>,
}

/// Tasks that call until they are stopped.
pub(crate) struct Callers {
    began: Instant,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<Calls>>,
}

impl Callers {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            stop: watch::Sender::new(false),
            tasks: Vec::new(),
        }
    }

    /// Starts this number of additional callers.
    pub(crate) fn add<W>(
        &mut self,
        callers: usize,
        call: &(impl Fn() -> W + Clone + Send + 'static),
    ) where
        W: Future<Output = Result<(), String>> + Send,
    {
        for _ in 0..callers {
            let (call, mut stopped) = (call.clone(), self.stop.subscribe());
            self.tasks.push(tokio::spawn(async move {
                let mut calls = Calls::default();
                loop {
                    let began = Instant::now();
                    let result = tokio::select! {
                        biased;
                        _ = stopped.wait_for(|stop| *stop) => return calls,
                        result = call() => result,
                    };
                    match result {
                        Ok(()) => calls.served.push((Instant::now(), began.elapsed())),
                        Err(text) => {
                            *calls.errors.entry(text).or_default() += 1;
                            sleep(PAUSE).await;
                        }
                    }
                }
            }));
        }
    }

    /// Stops all callers. A call in progress counts as neither served nor failed.
    pub(crate) async fn stop(self) -> Measured {
        let ended = Instant::now();
        self.stop.send_replace(true);
        let (mut served, mut errors) = (Vec::new(), BTreeMap::new());
        for task in self.tasks {
            let calls = task.await.expect("no caller panics");
            served.extend(calls.served);
            for (text, count) in calls.errors {
                *errors.entry(text).or_default() += count;
            }
        }
        served.sort_unstable_by_key(|(at, _)| *at);
        let ends = served.iter().map(|(at, _)| *at).chain([ended]);
        let mut before = self.began;
        let mut longest = Duration::ZERO;
        for at in ends {
            longest = longest.max(at.saturating_duration_since(before));
            before = at;
        }
        let before_the_change = served.iter().filter(|(at, _)| *at < self.began + CHANGE);
        let micros = |(_, took): &(_, Duration)| took.as_secs_f64() * 1_000_000.0;
        let mut took: Vec<f64> = before_the_change.map(micros).collect();
        Measured {
            served: served.len(),
            failed: errors.values().sum(),
            errors,
            longest_outage_ms: longest.as_secs_f64() * 1_000.0,
            median_us: median(&mut took),
            ..Measured::default()
        }
    }
}
