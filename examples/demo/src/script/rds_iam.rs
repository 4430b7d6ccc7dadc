//! Tokens as on RDS with a lifetime of six seconds. A plain pool keeps its first token and fails.

use std::sync::Arc;
use std::time::Duration;

use claviger::provider::FetchRequest;
use claviger::{Handle, Provider, Supervisor};
use claviger_rds_iam::RdsIam;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Script, ScriptContext, Tally, blocking, start_interruptible};
use crate::database::{Access, Database, Orders};
use crate::options::Options;
use crate::screen::Screen;
use crate::{Problem, show};

/// Lifetime of a token, instead of RDS's 15 minutes.
const LIFETIME: Duration = Duration::from_secs(6);
/// Pause between two queries on the plain pool.
const QUERY_INTERVAL: Duration = Duration::from_millis(250);

pub(crate) async fn show_expiring_tokens<D: Database>(
    screen: &Arc<Screen>,
    options: &Options,
) -> Result<bool, Problem> {
    screen.line(&format!(
        "starting a {} that verifies tokens as RDS does …",
        D::NAME
    ));
    let server = Arc::new(start_interruptible(|| D::start(Access::Tokens)).await?);
    screen.line(&format!(
        "{} listens on port {}; tokens expire after {} s",
        D::NAME,
        server.port(),
        LIFETIME.as_secs()
    ));

    let aws = super::aws::config(None);
    let provider_for = |user: &str| {
        RdsIam::builder(&aws, server.host(), server.port(), user)
            .with_lifetime(LIFETIME)
            .build()
    };
    let supervisor = Supervisor::start();
    let events = supervisor.events();
    let credentials = supervisor
        .add_provider("orders-credentials", provider_for("app")?)
        .await?;
    let db = supervisor
        .add_pool("orders", &credentials, server.pools())
        .await?;
    // The plain pool keeps its first token.
    let first = provider_for("plain")?
        .fetch(FetchRequest::first())
        .await?
        .into_lease(None)?;
    let script = Script::start(screen, options.duration, |context| {
        let plain = tokio::spawn(query_with_one_token(
            server.plain_pool(first.secret()),
            context.clone(),
        ));
        count_rotations(Arc::clone(&server), db.clone(), plain, context)
    });
    show::show(screen, &supervisor, events, &[db], script).await
}

/// Results of the plain pool's queries.
#[derive(Default)]
struct PlainPoolResult {
    succeeded: u32,
    failed: u32,
    error: Option<String>,
}

/// Queries through a pool that keeps its first token and opens connections later.
async fn query_with_one_token<P: Orders>(
    pool: Handle<P>,
    mut context: ScriptContext,
) -> PlainPoolResult {
    let mut plain = PlainPoolResult::default();
    let began = Instant::now();
    while Instant::now() < context.end && context.pause(QUERY_INTERVAL).await {
        match P::count(&pool).await {
            Ok(_) => plain.succeeded += 1,
            Err(problem) => {
                plain.failed += 1;
                if plain.error.is_none() {
                    let error = problem
                        .as_database_error()
                        .map_or_else(|| problem.to_string(), |error| error.message().to_owned());
                    context.screen.change(&format!(
                        "after {:.1} s the plain pool fails: {error}",
                        began.elapsed().as_secs_f64()
                    ));
                    plain.error = Some(error);
                }
            }
        }
    }
    plain
}

async fn count_rotations<D: Database>(
    server: Arc<D>,
    db: Handle<D::Pools>,
    plain: JoinHandle<PlainPoolResult>,
    mut context: ScriptContext,
) -> Tally {
    let mut tally = Tally::default();
    let mut current = db.generation();
    loop {
        let changed = db.changed();
        let now = db.generation();
        let renewed = u32::try_from(now - current).unwrap_or(u32::MAX);
        (tally.changes, tally.adopted, current) =
            (tally.changes + renewed, tally.adopted + renewed, now);
        tokio::select! {
            _ = changed => {}
            () = context.rest() => break,
        }
    }
    let plain = plain.await.unwrap_or_default();
    let Some(error) = plain.error else {
        tally.problem("stopped before the plain pool's token had expired");
        return tally;
    };
    tally.summary.push(format!(
        "the plain pool: {} queries succeeded, then {} failed: {error}",
        plain.succeeded, plain.failed
    ));
    match blocking(move || D::token_checks(&server, "app")).await {
        Ok(checks) => {
            tally.summary.push(format!(
                "the supervised pool: {} logins accepted, {} rejected; its oldest token was \
                 {:.1} s old",
                checks.accepted,
                checks.rejected,
                checks.oldest.as_secs_f64()
            ));
            if checks.rejected > 0 || checks.accepted == 0 {
                tally.problem(
                    "the server rejected a token of the supervised pool, or received none",
                );
            }
        }
        Err(problem) => tally.problem(problem.to_string()),
    }
    tally
}
