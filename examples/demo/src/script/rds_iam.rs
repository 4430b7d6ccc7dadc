//! Tokens as RDS takes them, which live six seconds: a plain pool that keeps its first one for
//! ever, and the supervised one.

use std::sync::Arc;
use std::time::Duration;

use claviger::{FetchRequest, Handle, Provider, Supervisor};
use claviger_rds_iam::RdsIam;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Cue, Script, Tally, blocking, start_interruptible};
use crate::database::{Access, Database, Orders};
use crate::options::Options;
use crate::screen::Screen;
use crate::{Problem, show};

/// In place of RDS's fifteen minutes.
const LIFETIME: Duration = Duration::from_secs(6);
/// From one query on the plain pool to the next.
const NOW_AND_THEN: Duration = Duration::from_millis(250);

pub(crate) async fn run<D: Database>(
    screen: &Arc<Screen>,
    options: &Options,
) -> Result<bool, Problem> {
    screen.line(&format!(
        "starting a {} of our own, which checks tokens as RDS does …",
        D::NAME
    ));
    let server = Arc::new(start_interruptible(|| D::start(Access::Tokens)).await?);
    screen.line(&format!(
        "{} listens on port {}; tokens live {} s",
        D::NAME,
        server.port(),
        LIFETIME.as_secs()
    ));

    let aws = super::aws::config(None);
    let token_for = |user: &str| {
        RdsIam::builder(&aws, server.host(), server.port(), user)
            .lifetime(LIFETIME)
            .build()
    };
    let supervisor = Supervisor::start();
    let events = supervisor.events();
    let login = supervisor
        .add_provider("orders-login", token_for("app")?)
        .await?;
    let db = supervisor
        .add_pool("orders", &login, server.pools())
        .await?;
    // Its first token is its last one.
    let first = token_for("plain")?
        .fetch(FetchRequest::first())
        .await?
        .into_lease(None)?;
    let script = Script::start(screen, options.duration, |cue| {
        let plain = tokio::spawn(keep_for_ever(
            server.plain_pool(first.secret()),
            cue.clone(),
        ));
        watch(Arc::clone(&server), db.clone(), plain, cue)
    });
    show::show(screen, &supervisor, events, &[db], script).await
}

/// What became of the plain pool's queries.
#[derive(Default)]
struct Plain {
    answered: u32,
    failed: u32,
    words: Option<String>,
}

/// The fault: a pool keeps its token for ever, and opens a connection late.
async fn keep_for_ever<P: Orders>(pool: Handle<P>, mut cue: Cue) -> Plain {
    let mut plain = Plain::default();
    let began = Instant::now();
    while Instant::now() < cue.end && cue.pause(NOW_AND_THEN).await {
        match P::count(&pool).await {
            Ok(_) => plain.answered += 1,
            Err(problem) => {
                plain.failed += 1;
                if plain.words.is_none() {
                    let words = problem
                        .as_database_error()
                        .map_or_else(|| problem.to_string(), |answer| answer.message().to_owned());
                    cue.screen.change(&format!(
                        "after {:.1} s the plain pool beside it fails: {words}",
                        began.elapsed().as_secs_f64()
                    ));
                    plain.words = Some(words);
                }
            }
        }
    }
    plain
}

async fn watch<D: Database>(
    server: Arc<D>,
    db: Handle<D::Pools>,
    plain: JoinHandle<Plain>,
    mut cue: Cue,
) -> Tally {
    let mut tally = Tally::default();
    let mut served = db.generation();
    loop {
        let changed = db.changed();
        let now = db.generation();
        let renewed = u32::try_from(now - served).unwrap_or(u32::MAX);
        (tally.changes, tally.adopted, served) =
            (tally.changes + renewed, tally.adopted + renewed, now);
        tokio::select! {
            _ = changed => {}
            () = cue.rest() => break,
        }
    }
    let plain = plain.await.unwrap_or_default();
    let Some(words) = plain.words else {
        tally.problem("stopped before the plain pool's token had died");
        return tally;
    };
    tally.summary.push(format!(
        "the plain pool beside it: {} queries answered, then {} failed: {words}",
        plain.answered, plain.failed
    ));
    match blocking(move || D::token_checks(&server, "app")).await {
        Ok(checks) => {
            tally.summary.push(format!(
                "the supervised pool: {} logins taken, {} rejected; its oldest token was {:.1} s old",
                checks.taken,
                checks.rejected,
                checks.oldest.as_secs_f64()
            ));
            if checks.rejected > 0 || checks.taken == 0 {
                tally.problem("the server rejected a token of the supervised pool, or saw none");
            }
        }
        Err(problem) => tally.problem(problem.to_string()),
    }
    tally
}
