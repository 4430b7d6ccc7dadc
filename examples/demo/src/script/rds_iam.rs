//! Tokens as on RDS with a lifetime of six seconds. A plain pool keeps its first token and fails.

use std::sync::Arc;
use std::time::Duration;

use claviger::provider::FetchRequest;
use claviger::{Handle, Provider, Supervisor};
use claviger_rds_iam::RdsIam;

use super::{Script, ScriptContext, Tally, blocking, start_interruptible};
use crate::kind::sqlx::{Database, Sqlx};
use crate::kind::{Kind, Plain, Supervised};
use crate::options::Options;
use crate::screen::Screen;
use crate::server::{APP, PLAIN};
use crate::service::{Service, TASKS};
use crate::show::{self, Services};
use crate::{CONNECTION_LIFETIME, PLAIN_TASKS, Problem};

/// Lifetime of a token, instead of RDS's 15 minutes.
const LIFETIME: Duration = Duration::from_secs(6);

pub(crate) async fn show_expiring_tokens<D: Database>(
    screen: &Arc<Screen>,
    options: &Options,
) -> Result<bool, Problem> {
    let what = format!("a {} that verifies tokens as RDS does", D::NAME);
    let server = Arc::new(start_interruptible(screen, &what, D::start_with_tokens).await?);
    screen.line(&format!(
        "{} listens on port {}; tokens expire after {} s; connections are closed after 0.4 s",
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
    let starting = async {
        let credentials = supervisor.add_provider("token", provider_for(APP)?).await?;
        let pools = server.pools(Some(CONNECTION_LIFETIME));
        Ok::<_, Problem>(supervisor.add_pool("orders", &credentials, pools).await?)
    };
    let db = screen.while_waiting("starting the pool", starting).await?;
    // The plain pool keeps its first token.
    let first = provider_for(PLAIN)?
        .fetch(FetchRequest::first())
        .await?
        .into_lease(None)?;
    let plain = server.plain_pool(first.secret(), Some(CONNECTION_LIFETIME));
    screen.line(&format!(
        "{TASKS} tasks on a supervised pool, {PLAIN_TASKS} on a plain one, which keeps its first token"
    ));
    let services = Services {
        calls: Sqlx::<D>::CALLS,
        shared: Sqlx::<D>::SHARED,
        supervised: Service::start(TASKS, &[Supervised::<Sqlx<D>>(db.clone())]),
        plain: Service::start(PLAIN_TASKS, &[Plain::<Sqlx<D>>::new(plain)]),
    };
    let script = Script::start(screen, options.duration, |context| {
        count_rotations(Arc::clone(&server), db.clone(), context)
    });
    show::show(
        screen,
        options,
        &supervisor,
        events,
        &[db],
        services,
        script,
    )
    .await
}

async fn count_rotations<D: Database>(
    server: Arc<D>,
    db: Handle<D::Pools>,
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
    match blocking(move || D::token_checks(&server, APP)).await {
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
