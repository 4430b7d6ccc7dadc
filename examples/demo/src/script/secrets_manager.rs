//! Two secrets in moto are rotated in AWS's four steps: one with a single user, one with
//! alternating users.

use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use claviger::pool::PoolFactory;
use claviger::{Credentials, Handle, Supervisor};
use claviger_rotator::{Rotator, Users};
use claviger_secrets_manager::SecretsManager;
use claviger_servers::Moto;
use serde_json::json;
use tokio::time::Instant;

use super::{Script, ScriptContext, Tally, aws, blocking, change_and_wait, start_interruptible};
use crate::kind::sqlx::{Database, Sqlx};
use crate::kind::{Kind, Plain, Supervised};
use crate::options::Options;
use crate::screen::{Screen, counted};
use crate::server::{APP, FIRST_PASSWORD};
use crate::service::{Counters, Service, TASKS};
use crate::show::{self, Services};
use crate::{CONNECTION_LIFETIME, PLAIN_TASKS, Problem};

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
    let creating = async {
        let one = create_secret(&server, &config, "one-user", Users::Single).await?;
        let two = create_secret(&server, &config, "two-users", Users::Alternating).await?;
        Ok::<_, Problem>((one, two))
    };
    let (one, two) = screen
        .while_waiting("creating two secrets", creating)
        .await?;

    let supervisor = Supervisor::builder()
        .with_poll_interval(POLL_INTERVAL)
        .start()?;
    let events = supervisor.events();
    let starting = async {
        let provider = SecretsManager::new(&config, "one-user")?;
        let credentials = supervisor.add_provider("one-user", provider).await?;
        let pools = server.pools(Some(CONNECTION_LIFETIME));
        let first = supervisor.add_pool("one-user", &credentials, pools).await?;
        let provider = SecretsManager::builder(&config, "two-users")
            .with_alternating_users()
            .build()?;
        let credentials = supervisor.add_provider("two-users", provider).await?;
        let pools = server.pools(Some(CONNECTION_LIFETIME));
        let second = supervisor
            .add_pool("two-users", &credentials, pools)
            .await?;
        Ok::<_, Problem>((first, second))
    };
    let (first, second) = screen.while_waiting("starting the pools", starting).await?;

    let pools = [first.clone(), second.clone()];
    let callers = pools.clone().map(Supervised::<Sqlx<D>>);
    let plain = PlainService::<D> {
        pool: Plain::new(PlainService::<D>::pool(&server, FIRST_PASSWORD)),
        server: Arc::clone(&server),
    };
    screen.line(&format!(
        "{TASKS} tasks on two supervised pools, {PLAIN_TASKS} on a plain one with the secret one-user"
    ));
    let services = Services {
        calls: Sqlx::<D>::CALLS,
        shared: Sqlx::<D>::SHARED,
        supervised: Service::start(TASKS, &callers),
        plain: Service::start(PLAIN_TASKS, std::slice::from_ref(&plain.pool)),
    };
    let failures = Arc::clone(services.plain.counters());
    let script = Script::start(screen, options.duration, |context| async move {
        let plain = Some((plain, failures));
        let (one, two) = tokio::join!(
            rotate("one-user", one, first, window, context.clone(), plain),
            rotate::<_, D>("two-users", two, second, window, context, None)
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

/// The plain service, which reads the secret `one-user` at its start alone.
struct PlainService<D: Database> {
    server: Arc<D>,
    pool: Plain<Sqlx<D>>,
}

impl<D: Database> PlainService<D> {
    fn pool(server: &D, password: &str) -> D::Plain {
        server.plain_pool(&Credentials::new(APP, password), Some(CONNECTION_LIFETIME))
    }

    fn restart(&self, password: &str) {
        self.pool.replace(Self::pool(&self.server, password));
    }
}

/// Rotates a secret until the end. The plain service is restarted after each rotation.
async fn rotate<P: PoolFactory, D: Database>(
    name: &str,
    rotator: Rotator,
    db: Handle<P>,
    window: Duration,
    mut context: ScriptContext,
    plain: Option<(PlainService<D>, Arc<Counters>)>,
) -> Tally {
    let mut tally = Tally::default();
    while context.pause(PAUSE).await {
        if Instant::now() + window >= context.end && tally.changes > 0 {
            break;
        }
        tally.changes += 1;
        if let Some((_, failures)) = &plain {
            failures.report_again();
        }
        let password = format!("password-{}", tally.changes);
        let steps = run_steps(name, &rotator, tally.changes, &password, window, &context);
        match change_and_wait(&db, steps).await {
            Ok(()) => tally.adopted += 1,
            Err(problem) => {
                tally.problem(format!("{name}, rotation {}: {problem}", tally.changes));
                break;
            }
        }
        if let Some((service, _)) = &plain {
            context
                .screen
                .change("the plain service is restarted, and reads AWSCURRENT");
            service.restart(&password);
        }
    }
    context.rest().await;
    tally.summary.push(format!(
        "{name}: {} of four steps, {} adopted",
        counted(tally.changes, "rotation"),
        tally.adopted
    ));
    tally
}

async fn run_steps(
    name: &str,
    rotator: &Rotator,
    number: u32,
    password: &str,
    window: Duration,
    context: &ScriptContext,
) -> Result<(), Problem> {
    let announce = |step: &str| {
        context
            .screen
            .change(&format!("{name}, rotation {number}: {step}"))
    };
    let pending = rotator.create_secret(password).await?;
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
