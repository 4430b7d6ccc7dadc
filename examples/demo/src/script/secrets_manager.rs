//! Two secrets in moto are rotated in AWS's four steps: one with a single user, one with
//! alternating users.

use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use claviger::pool::PoolFactory;
use claviger::{Handle, Supervisor};
use claviger_rotator::{Rotator, Users};
use claviger_secrets_manager::SecretsManager;
use claviger_servers::Moto;
use serde_json::json;
use tokio::time::Instant;

use super::{Script, ScriptContext, Tally, aws, blocking, change_and_wait, start_interruptible};
use crate::kind::sqlx::{Database, Sqlx};
use crate::kind::{Kind, Supervised};
use crate::options::Options;
use crate::screen::Screen;
use crate::server::{APP, FIRST_PASSWORD};
use crate::service::{Service, TASKS};
use crate::show::{self, Services};
use crate::{CONNECTION_LIFETIME, Problem};

/// Poll interval, instead of a service's five minutes. With alternating users only a poll finds a
/// new version.
const POLL_INTERVAL: Duration = Duration::from_secs(3);
/// Pause between two rotations.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn show_four_steps<D: Database>(
    screen: &Arc<Screen>,
    options: &Options,
) -> Result<bool, Problem> {
    let server = start_interruptible(screen, &format!("a {}", D::NAME), D::start).await?;
    let server = Arc::new(server);
    let moto = start_interruptible(screen, "a moto", || Ok(Moto::start()?)).await?;
    let window = options.window;
    screen.line(&format!(
        "{} listens on port {}; moto emulates Secrets Manager at {}; {} s from setSecret to \
         finishSecret; connections are closed after 0.4 s",
        D::NAME,
        server.port(),
        moto.endpoint(),
        window.as_secs_f64()
    ));
    let config = aws::config(Some(moto.endpoint()));
    let one = create_secret(&server, &config, "one-user", Users::Single).await?;
    let two = create_secret(&server, &config, "two-users", Users::Alternating).await?;

    let supervisor = Supervisor::builder()
        .with_poll_interval(POLL_INTERVAL)
        .start()?;
    let events = supervisor.events();
    let credentials = supervisor
        .add_provider("one-user", SecretsManager::new(&config, "one-user")?)
        .await?;
    let first = supervisor
        .add_pool(
            "one-user",
            &credentials,
            server.pools(Some(CONNECTION_LIFETIME)),
        )
        .await?;
    let credentials = supervisor
        .add_provider(
            "two-users",
            SecretsManager::builder(&config, "two-users")
                .with_alternating_users()
                .build()?,
        )
        .await?;
    let second = supervisor
        .add_pool(
            "two-users",
            &credentials,
            server.pools(Some(CONNECTION_LIFETIME)),
        )
        .await?;

    let pools = [first.clone(), second.clone()];
    let callers = pools.clone().map(Supervised::<Sqlx<D>>);
    let services = Services {
        calls: Sqlx::<D>::CALLS,
        supervised: Service::start(TASKS, &callers),
        plain: None,
    };
    let script = Script::start(screen, options.duration, |context| async move {
        let (one, two) = tokio::join!(
            rotate("one-user", one, first, window, context.clone()),
            rotate("two-users", two, second, window, context)
        );
        one.sum(two)
    });
    show::show(
        screen,
        options,
        &supervisor,
        events,
        &pools,
        services,
        script,
    )
    .await
}

/// Creates a secret with RDS's JSON fields, and its users in the database.
async fn create_secret<D: Database>(
    server: &Arc<D>,
    config: &SdkConfig,
    name: &str,
    users: Users,
) -> Result<Rotator, Problem> {
    let user = if users == Users::Single {
        APP
    } else {
        "alternating"
    };
    if users == Users::Alternating {
        let server = Arc::clone(server);
        blocking(move || {
            server
                .create_reader("alternating", FIRST_PASSWORD)
                .and_then(|()| server.create_reader("alternating_clone", "not used yet"))
        })
        .await?;
    }
    let first = json!({
        "engine": D::ENGINE,
        "username": user,
        "password": FIRST_PASSWORD,
        "dbname": "orders",
    });
    let server = Arc::clone(server);
    Rotator::create(
        Client::new(config),
        name,
        users,
        &first,
        move |role, password| server.change_password(role, password),
    )
    .await
}

async fn rotate<P: PoolFactory>(
    name: &str,
    rotator: Rotator,
    db: Handle<P>,
    window: Duration,
    mut context: ScriptContext,
) -> Tally {
    let mut tally = Tally::default();
    while context.pause(PAUSE).await {
        if Instant::now() + window >= context.end && tally.changes > 0 {
            break;
        }
        tally.changes += 1;
        match change_and_wait(
            &db,
            run_steps(name, &rotator, tally.changes, window, &context),
        )
        .await
        {
            Ok(()) => tally.adopted += 1,
            Err(problem) => {
                tally.problem(format!("{name}, rotation {}: {problem}", tally.changes));
                break;
            }
        }
    }
    context.rest().await;
    tally.summary.push(format!(
        "{name}: {} rotations of four steps, {} adopted",
        tally.changes, tally.adopted
    ));
    tally
}

async fn run_steps(
    name: &str,
    rotator: &Rotator,
    number: u32,
    window: Duration,
    context: &ScriptContext,
) -> Result<(), Problem> {
    let announce = |step: &str| {
        context
            .screen
            .change(&format!("{name}, rotation {number}: {step}"))
    };
    let pending = rotator.create_secret(&format!("password-{number}")).await?;
    announce("createSecret: a new password is at AWSPENDING");
    rotator.set_secret(&pending).await?;
    announce("setSecret: the database accepts it; AWSCURRENT is still the old one");
    rotator.test_secret(&pending).await?;
    // A stop ends the wait, and this rotation completes at once.
    context.clone().pause(window).await;
    rotator.finish_secret(&pending).await?;
    announce("finishSecret: AWSCURRENT is the new one");
    Ok(())
}
