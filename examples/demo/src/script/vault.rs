//! Users that a Vault makes: they live ten seconds, thirty at most, and the server ends their
//! connections when they die.

use std::sync::Arc;
use std::time::Duration;

use claviger::{Handle, Supervisor};
use claviger_vault::{Auth, SecretId, VaultDynamic, VaultSession};
use claviger_vault_fixtures::{Admin, ENGINE_PASSWORD, ENGINE_USER, MOUNT, Revocation};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Cue, Script, Tally, blocking, start_interruptible};
use crate::database::{Access, Database, Orders};
use crate::options::Options;
use crate::screen::Screen;
use crate::{Problem, show};

const ROLE: &str = "orders";
/// The life of a user in seconds, and the longest that renewals may make of it.
const LIFE: u64 = 10;
const LONGEST_LIFE: u64 = 30;
/// When a new user is asked for by hand, once; all others come by themselves.
const BY_HAND: Duration = Duration::from_secs(3);
/// How long the last user but one may take to be given back.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn run<D: Database>(
    screen: &Arc<Screen>,
    options: &Options,
) -> Result<bool, Problem> {
    screen.line(&format!(
        "starting a {} and an OpenBao of our own …",
        D::NAME
    ));
    let (server, admin) = start_interruptible(set::<D>).await?;
    let (server, admin) = (Arc::new(server), Arc::new(admin));
    screen.line(&format!(
        "{} listens on port {}; its users come from {}, live {LIFE} s and {LONGEST_LIFE} s at most",
        D::NAME,
        server.port(),
        admin.vault.address()
    ));
    let identity = Arc::clone(&admin);
    let (role_id, secret_id) = blocking(move || {
        Ok((
            identity.app_role(json!({ "token_ttl": "1m", "token_max_ttl": "1h" }))?,
            identity.secret_id()?,
        ))
    })
    .await?;
    let connection = VaultSession::new(
        admin.vault.address(),
        Auth::app_role(role_id, SecretId::given(secret_id)),
    )?;

    let supervisor = Supervisor::start();
    let events = supervisor.events();
    let login = supervisor
        .add_provider("orders-login", VaultDynamic::new(&connection, MOUNT, ROLE)?)
        .await?;
    let db = supervisor
        .add_pool("orders", &login, server.pools())
        .await?;
    let script = Script::start(screen, options.duration, |cue| {
        watch(
            Arc::clone(&server),
            Arc::clone(&admin),
            supervisor.clone(),
            db.clone(),
            cue,
        )
    });
    let well = show::show(screen, &supervisor, events, &[db], script).await?;
    let (leases, users) = blocking(move || left(&*server, &admin)).await?;
    if leases + users > 0 {
        screen.problem(&format!(
            "after the service has ended {leases} leases and {users} users are left"
        ));
    }
    Ok(well && leases + users == 0)
}

fn set<D: Database>() -> Result<(D, Admin), Problem> {
    let server = D::start(Access::Password)?;
    server.create_engine_user(ENGINE_USER, ENGINE_PASSWORD)?;
    let admin = Admin::start()?;
    admin.connect(D::KIND, server.port())?;
    admin.policy()?;
    admin.role(D::KIND, ROLE, LIFE, LONGEST_LIFE, Revocation::Terminating)?;
    Ok((server, admin))
}

/// Leases on the server, and users in the database.
fn left<D: Database>(server: &D, admin: &Admin) -> Result<(usize, usize), Problem> {
    Ok((admin.leases(ROLE)?.len(), server.made_users()?))
}

async fn watch<D: Database>(
    server: Arc<D>,
    admin: Arc<Admin>,
    supervisor: Supervisor,
    db: Handle<D::Pools>,
    mut cue: Cue,
) -> Tally
where
    D::Pools: Orders,
{
    let mut tally = Tally::default();
    let first = db.generation();
    if cue.pause(BY_HAND).await {
        cue.screen.change("a new user is asked for by hand");
        if let Err(problem) = supervisor.rotate_now("orders-login").await {
            tally.problem(problem.to_string());
        }
    }
    cue.rest().await;
    let deadline = Instant::now() + PATIENCE;
    let found = loop {
        let (server, admin) = (Arc::clone(&server), Arc::clone(&admin));
        let found = blocking(move || left(&*server, &admin)).await;
        if matches!(found, Ok((1, 1))) || Instant::now() >= deadline {
            break found;
        }
        sleep(PAUSE).await;
    };
    let users = u32::try_from(db.generation() - first).unwrap_or(u32::MAX);
    (tally.changes, tally.adopted) = (users, users);
    match found {
        Ok((1, 1)) => {
            tally.summary.push(format!("{users} users in the first one's place; no lease and no user is left but the live one's"))
        }
        Ok((leases, users)) => tally.problem(format!("{leases} leases and {users} users are there, where one is alive")),
        Err(problem) => tally.problem(problem.to_string()),
    }
    tally
}
