//! Runs checks one after another on a runtime of their own, each with a time limit.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinError;
use tokio::time::{Instant, sleep, timeout};

use super::report::{CheckReport, Outcome, Report};

/// Default limit of one check.
pub(super) const CHECK_LIMIT: Duration = Duration::from_secs(60);

/// Time within which one step of a subject must complete, also on a busy machine.
pub(super) const STEP: Duration = Duration::from_secs(10);

/// The library's default verify deadline.
pub(super) const VERIFY_DEADLINE: Duration = Duration::from_secs(5);

/// Time for which the kit verifies that something does not happen.
pub(super) const WATCH: Duration = Duration::from_millis(250);

/// Pause between two reads of a condition, and for work in the background.
pub(super) const PAUSE: Duration = Duration::from_millis(10);

/// Time for an aborted check to end before its runtime is abandoned.
const ABORT: Duration = Duration::from_secs(1);

/// Worker threads of the checks' runtime.
const WORKERS: usize = 4;

/// The error of a control.
pub type ControlError = Box<dyn std::error::Error + Send + Sync>;

/// Reason why a check did not pass.
#[derive(Debug)]
pub(super) enum Problem {
    Failed { expected: String, actual: String },
    NotApplicable(String),
}

/// Converts an error of the controls, which fails the check.
impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        failed("the controls work", format!("a control returned: {error}"))
    }
}

pub(super) type CheckResult<T = ()> = Result<T, Problem>;

pub(super) fn failed(expected: impl Into<String>, actual: impl Display) -> Problem {
    Problem::Failed {
        expected: expected.into(),
        actual: actual.to_string(),
    }
}

pub(super) fn not_applicable(reason: impl Into<String>) -> Problem {
    Problem::NotApplicable(reason.into())
}

/// Fails the check unless the condition is true.
pub(super) fn require(
    condition: bool,
    expected: impl Into<String>,
    actual: impl FnOnce() -> String,
) -> CheckResult {
    if condition {
        return Ok(());
    }
    Err(failed(expected, actual()))
}

/// Waits for one step of the subject, for [`STEP`] at most.
pub(super) async fn step<T>(what: &str, work: impl Future<Output = T>) -> CheckResult<T> {
    let pending = || failed(format!("{what} completes"), "it was pending after 10 s");
    timeout(STEP, work).await.map_err(|_| pending())
}

/// Waits until the condition is true, for [`STEP`] at most. The condition returns `None` then, or
/// the observed state.
pub(super) async fn eventually<W>(expected: &str, mut condition: impl FnMut() -> W) -> CheckResult
where
    W: Future<Output = CheckResult<Option<String>>>,
{
    let end = Instant::now() + STEP;
    loop {
        let Some(seen) = condition().await? else {
            return Ok(());
        };
        if Instant::now() >= end {
            return Err(failed(expected, format!("{seen}, 10 s later")));
        }
        sleep(PAUSE).await;
    }
}

type Run<W> = Box<dyn FnOnce(W) -> Pin<Box<dyn Future<Output = CheckResult> + Send>> + Send>;

/// A check that is to run.
pub(super) struct Planned<W> {
    pub(super) name: &'static str,
    requirement: &'static str,
    /// Checks that must not have failed before. This one would fail for the same reason.
    rests_on: Vec<&'static str>,
    run: Run<W>,
}

impl<W> Planned<W> {
    /// Runs the check only if none of these checks has failed.
    pub(super) fn rest_on(&mut self, names: impl IntoIterator<Item = &'static str>) {
        self.rests_on.extend(names);
    }
}

/// Sorts basic checks to the front, in this order. Each rests on those before it, and all others
/// rest on them.
pub(super) fn basic_first<W>(
    basic: &[&'static str],
    mut checks: Vec<Planned<W>>,
) -> Vec<Planned<W>> {
    let position = |name| basic.iter().position(|basic| *basic == name);
    let before = |check: &Planned<W>| position(check.name).unwrap_or(basic.len());
    checks.sort_by_key(before);
    for check in &mut checks {
        let before = before(check);
        check.rest_on(basic.iter().copied().take(before));
    }
    checks
}

pub(super) fn planned<W, R>(
    name: &'static str,
    requirement: &'static str,
    run: impl FnOnce(W) -> R + Send + 'static,
) -> Planned<W>
where
    W: Send + 'static,
    R: Future<Output = CheckResult> + Send + 'static,
{
    Planned {
        name,
        requirement,
        rests_on: Vec::new(),
        run: Box::new(|world| Box::pin(run(world))),
    }
}

/// The secrets that the kit has received. A report shows none of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Secrets(Arc<Mutex<HashSet<String>>>);

impl Secrets {
    pub(super) fn add(&self, secret: String) {
        // A shorter text may occur by chance.
        if secret.len() >= 6 {
            self.0.lock().insert(secret);
        }
    }

    /// Returns whether the text contains one of them.
    pub(super) fn are_in(&self, text: &str) -> bool {
        self.0.lock().iter().any(|secret| text.contains(secret))
    }

    fn remove_from(&self, text: String) -> String {
        let secrets = self.0.lock();
        let mut longest_first: Vec<_> = secrets.iter().collect();
        // One secret may begin with another.
        longest_first.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        longest_first.into_iter().fold(text, |text, secret| {
            text.replace(secret.as_str(), "[secret]")
        })
    }
}

pub(super) type Excluded = Box<dyn Fn(&str) -> Option<String> + Send>;

/// Checks to run, and their settings.
pub(super) struct Plan<W> {
    pub(super) subject: &'static str,
    pub(super) checks: Vec<Planned<W>>,
    pub(super) world: W,
    pub(super) limit: Duration,
    pub(super) secrets: Secrets,
    /// Returns the reason why a check does not apply to the subject.
    pub(super) excluded: Excluded,
}

/// Runs the checks on a thread of their own: a subject that blocks or panics cannot affect the
/// caller's runtime.
pub(super) async fn run_plan<W: Clone + Send + 'static>(plan: Plan<W>) -> Report {
    let subject = plan.subject;
    let (report, received) = oneshot::channel();
    let body = move || {
        let checks = match Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime.block_on(run_all(plan, &report)),
            Err(error) => vec![not_started(&error)],
        };
        let _ = report.send(checks);
    };
    let started = thread::Builder::new()
        .name("conformance".into())
        .spawn(body);
    let checks = match started {
        // The thread ends without a result only if it panicked.
        Ok(_) => received
            .await
            .unwrap_or_else(|_| vec![not_started(&io::Error::other("the kit's thread panicked"))]),
        Err(error) => vec![not_started(&error)],
    };
    Report::new(subject, checks)
}

fn not_started(error: &io::Error) -> CheckReport {
    CheckReport {
        name: "checks_start",
        requirement: "the kit: \"checks run on a runtime of their own\"",
        outcome: Outcome::Failed {
            expected: "the checks start".into(),
            actual: error.to_string(),
        },
        took: Duration::ZERO,
    }
}

async fn run_all<W: Clone + Send + 'static>(
    plan: Plan<W>,
    caller: &oneshot::Sender<Vec<CheckReport>>,
) -> Vec<CheckReport> {
    let mut workers = Workers(None);
    let mut reports = Vec::new();
    // Each check that failed or was not run, with the one that failed.
    let mut failed = HashMap::new();
    for check in plan.checks {
        if caller.is_closed() {
            break;
        }
        let began = Instant::now();
        let (name, requirement) = (check.name, check.requirement);
        let cause = check
            .rests_on
            .iter()
            .find_map(|name| failed.get(name).copied());
        let outcome = match ((plan.excluded)(name), cause) {
            (Some(reason), _) => Outcome::NotApplicable { reason },
            (None, Some(failed)) => Outcome::NotRun { failed },
            (None, None) => run_one(check, plan.world.clone(), plan.limit, &mut workers).await,
        };
        let outcome = match outcome {
            Outcome::Failed { expected, actual } => {
                failed.insert(name, name);
                let actual = plan.secrets.remove_from(actual);
                Outcome::Failed { expected, actual }
            }
            Outcome::NotRun { failed: cause } => {
                failed.insert(name, cause);
                outcome
            }
            outcome => outcome,
        };
        reports.push(CheckReport {
            name,
            requirement,
            outcome,
            took: began.elapsed(),
        });
    }
    reports
}

async fn run_one<W>(
    check: Planned<W>,
    world: W,
    limit: Duration,
    workers: &mut Workers,
) -> Outcome {
    let runtime = match workers.runtime() {
        Ok(runtime) => runtime,
        Err(error) => return not_started(&error).outcome,
    };
    let work = (check.run)(world);
    let mut task = runtime.spawn(work);
    let problem = match timeout(limit, &mut task).await {
        Ok(Ok(Ok(()))) => return Outcome::Passed,
        Ok(Ok(Err(problem))) => problem,
        Ok(Err(error)) => {
            workers.abandon();
            failed("the subject does not panic", panic_text(error))
        }
        Err(_) => {
            task.abort();
            let _ = timeout(ABORT, task).await;
            // It may block a thread, or have left tasks behind.
            workers.abandon();
            let expected = format!("the check ends within {limit:?}");
            failed(expected, "it was still running, and was aborted")
        }
    };
    match problem {
        Problem::Failed { expected, actual } => Outcome::Failed { expected, actual },
        Problem::NotApplicable(reason) => Outcome::NotApplicable { reason },
    }
}

/// Returns the text of a task's end by a panic.
pub(super) fn panic_text(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => format!("a panic: {}", message_of(&*panic)),
        Err(error) => error.to_string(),
    }
}

/// Returns the message of a panic.
pub(super) fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

/// The runtime of the checks. A new one is started when a check did not end.
struct Workers(Option<Runtime>);

impl Workers {
    fn runtime(&mut self) -> io::Result<&Runtime> {
        if self.0.is_none() {
            let runtime = Builder::new_multi_thread()
                .worker_threads(WORKERS)
                .thread_name("conformance-check")
                .enable_all()
                .build()?;
            return Ok(self.0.insert(runtime));
        }
        self.0
            .as_ref()
            .ok_or_else(|| io::Error::other("no runtime"))
    }

    fn abandon(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.abandon();
    }
}
