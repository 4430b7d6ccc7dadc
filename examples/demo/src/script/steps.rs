//! The steps of a demo whose password changes, on any kind of pool.

use std::sync::Arc;
use std::time::Duration;

use claviger::{Handle, Supervisor};
use tokio::time::{Instant, sleep};

use super::comparison::Comparison;
use super::file::SecretFile;
use super::{ScriptContext, Tally, blocking, change_and_wait};
use crate::Problem;
use crate::kind::{Kind, Plain};
use crate::screen::counted;
use crate::server::{APP, FIRST_PASSWORD, PLAIN, Server};
use crate::service::Counters;

/// Pause before and after a step. Both pools work before a step.
const PAUSE: Duration = Duration::from_millis(600);
/// Longest wait for the fetch that a rejection causes. It takes milliseconds on an idle machine.
const TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// Delay of the file after an unannounced change of the password.
const LAG: Duration = Duration::from_millis(500);

/// Kinds of steps, in the order in which they run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Announced,
    Unannounced,
    Kill,
}

impl Step {
    const ALL: [Self; 3] = [Self::Announced, Self::Unannounced, Self::Kill];

    /// Returns the name of the step in the table.
    const fn name(self) -> &'static str {
        match self {
            Self::Announced => "announced rotation, then a kill",
            Self::Unannounced => "unannounced rotation and a kill",
            Self::Kill => "kill alone",
        }
    }

    fn announcement(self, change: &str) -> String {
        match self {
            Self::Announced => {
                format!("announced: new file, then {change}, then a kill")
            }
            Self::Unannounced => {
                format!("unannounced: {change} and a kill; the file follows in 0.5 s")
            }
            Self::Kill => "kill: all connections are terminated, the password stays".to_owned(),
        }
    }
}

/// The steps and what they act on.
pub(super) struct Steps<K: Kind> {
    pub(super) server: Arc<K::Server>,
    pub(super) secret: Arc<SecretFile>,
    pub(super) supervisor: Supervisor,
    pub(super) db: Handle<K::Pools>,
    pub(super) plain_pool: Plain<K>,
    pub(super) supervised: Arc<Counters>,
    pub(super) plain: Arc<Counters>,
    pub(super) context: ScriptContext,
}

/// Fetches that the rejections caused, and callers that waited meanwhile.
#[derive(Default)]
struct Rejections {
    count: u32,
    fewest_callers: u64,
    most_fetches: u64,
}

impl<K: Kind> Steps<K> {
    /// Runs steps until the end of the demo. Each kind of step runs at least once.
    pub(super) async fn take(mut self) -> Tally {
        let mut tally = Tally::default();
        let mut comparison = Comparison::default();
        let mut rejections = Rejections::default();
        let mut password = FIRST_PASSWORD.to_owned();
        let mut taken = 0;
        for step in Step::ALL.into_iter().cycle() {
            let is_last = taken >= Step::ALL.len() && Instant::now() + LAG >= self.context.end;
            if is_last || !self.context.pause(PAUSE).await {
                break;
            }
            taken += 1;
            self.plain.report_again();
            comparison.begin(step.name(), &self.supervised, &self.plain);
            self.context
                .begin_step(&step.announcement(K::Server::CHANGE));
            if step != Step::Kill {
                tally.changes += 1;
                password = format!("password-{}", tally.changes);
            }
            match self.take_step(step, &password, &mut rejections).await {
                Ok(()) if step != Step::Kill => tally.adopted += 1,
                Ok(()) => {}
                Err(problem) => {
                    tally.problem(format!("step {taken}: {problem}"));
                    break;
                }
            }
        }
        comparison.end(&self.supervised, &self.plain);
        if taken < Step::ALL.len() {
            tally.problem("stopped before every kind of step has run");
        }
        tally.table = comparison.table(K::CALLS);
        comparison.write_to(&self.context.screen);
        if rejections.count > 0 {
            tally.summary.push(rejections.line());
        }
        match self.rejected_logins().await {
            Ok((app, plain)) => tally.summary.push(format!(
                "rejected logins: {app} of the supervised pool, {plain} of the plain pool"
            )),
            Err(problem) => tally.problem(problem.to_string()),
        }
        tally
    }

    async fn take_step(
        &mut self,
        step: Step,
        password: &str,
        rejections: &mut Rejections,
    ) -> Result<(), Problem> {
        match step {
            Step::Announced => {
                change_and_wait(&self.db, async {
                    self.write_secret(password).await?;
                    self.change_password(password).await
                })
                .await?;
                self.kill_connections().await?;
            }
            Step::Unannounced => {
                change_and_wait(&self.db, async {
                    let before = self.fetches();
                    self.change_password(password).await?;
                    self.kill_connections().await?;
                    sleep(LAG).await;
                    let limit = Instant::now() + TIMEOUT;
                    while self.fetches() == before && Instant::now() < limit {
                        sleep(POLL_INTERVAL).await;
                    }
                    let fetches = self.fetches() - before;
                    let callers = self.supervised.in_progress();
                    rejections.add(callers, fetches);
                    self.context.screen.callers_waited(callers, fetches);
                    self.write_secret(password).await
                })
                .await?;
            }
            Step::Kill => self.kill_connections().await?,
        }
        self.context.pause(PAUSE).await;
        if step != Step::Kill {
            self.context
                .screen
                .change("the plain service is restarted with the new password");
            self.plain_pool.restart(&self.server, password)?;
        }
        Ok(())
    }

    async fn write_secret(&self, password: &str) -> Result<(), Problem> {
        let (secret, password) = (Arc::clone(&self.secret), password.to_owned());
        blocking(move || Ok(secret.write(&password)?)).await
    }

    async fn change_password(&self, password: &str) -> Result<(), Problem> {
        let (server, password) = (Arc::clone(&self.server), password.to_owned());
        blocking(move || {
            server.change_password(APP, &password)?;
            server.change_password(PLAIN, &password)
        })
        .await
    }

    async fn kill_connections(&self) -> Result<(), Problem> {
        let server = Arc::clone(&self.server);
        blocking(move || {
            server.kill_connections(APP)?;
            server.kill_connections(PLAIN)
        })
        .await
    }

    async fn rejected_logins(&self) -> Result<(u64, u64), Problem> {
        let server = Arc::clone(&self.server);
        blocking(move || Ok((server.rejected_logins(APP)?, server.rejected_logins(PLAIN)?))).await
    }

    /// Returns the number of fetches until now.
    fn fetches(&self) -> u64 {
        let status = self.supervisor.status();
        status
            .providers
            .iter()
            .map(|provider| provider.fetches)
            .sum()
    }
}

impl Rejections {
    fn add(&mut self, callers: u64, fetches: u64) {
        let first = self.count == 0;
        self.count += 1;
        self.fewest_callers = if first {
            callers
        } else {
            self.fewest_callers.min(callers)
        };
        self.most_fetches = self.most_fetches.max(fetches);
    }

    fn line(&self) -> String {
        format!(
            "{} for all callers: at most {} while {} or more waited",
            counted(self.count, "rejection"),
            counted(self.most_fetches, "fetch"),
            counted(self.fewest_callers, "caller"),
        )
    }
}
