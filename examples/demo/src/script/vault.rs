//! Dynamic users of Vault (ttl 10 s, max_ttl 30 s). Their connections are terminated when they are
//! revoked.

use std::sync::Arc;
use std::time::Duration;

use claviger::provider::FetchRequest;
use claviger::{Handle, Provider, Supervisor};
use claviger_vault::{Auth, SecretId, VaultDynamic, VaultSession};
use claviger_vault_fixtures::{Admin, ENGINE_PASSWORD, ENGINE_USER, MOUNT, Revocation};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Script, ScriptContext, Tally, blocking, start_interruptible};
use crate::kind::sqlx::{Database, Sqlx};
use crate::kind::{Kind, Plain, Supervised};
use crate::options::Options;
use crate::screen::{Screen, counted};
use crate::service::{Service, TASKS};
use crate::show::{self, Services};
use crate::{CONNECTION_LIFETIME, PLAIN_TASKS, Problem};

const ROLE: &str = "orders";
const CREDENTIALS: &str = "user";
/// Lifetime of a user in seconds, and its maximum with renewals.
const TTL: u64 = 10;
const MAX_TTL: u64 = 30;
/// Time of the manual rotation. All others are scheduled.
const MANUAL_ROTATION_AT: Duration = Duration::from_secs(3);
/// Timeout for the release of the previous user.
const TIMEOUT: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn show_dynamic_users<D: Database>(
    screen: &Arc<Screen>,
    options: &Options,
) -> Result<bool, Problem> {
    let what = format!("a {} and an OpenBao", D::NAME);
    let (server, admin) = start_interruptible(screen, &what, start_servers::<D>).await?;
    let (server, admin) = (Arc::new(server), Arc::new(admin));
    screen.line(&format!(
        "{} listens on port {}; its users come from {}, ttl {TTL} s, max_ttl {MAX_TTL} s; \
         connections are closed after 0.4 s",
        D::NAME,
        server.port(),
        admin.vault.address()
    ));
    let auth_admin = Arc::clone(&admin);
    let (role_id, secret_id) = blocking(move || {
        Ok((
            auth_admin.app_role(json!({ "token_ttl": "1m", "token_max_ttl": "1h" }))?,
            auth_admin.secret_id()?,
        ))
    })
    .await?;
    let session = VaultSession::new(
        admin.vault.address(),
        Auth::app_role(role_id, SecretId::given(secret_id)),
    )?;

    let supervisor = Supervisor::start();
    let events = supervisor.events();
    let starting = async {
        let provider = || VaultDynamic::new(&session, MOUNT, ROLE);
        let credentials = supervisor.add_provider(CREDENTIALS, provider()?).await?;
        let pools = server.pools(Some(CONNECTION_LIFETIME));
        let db = supervisor.add_pool("orders", &credentials, pools).await?;
        // The plain pool keeps its first user, and does not renew it.
        let first = provider()?.fetch(FetchRequest::first()).await?;
        Ok::<_, Problem>((db, first.into_lease(None)?))
    };
    let (db, first) = screen.while_waiting("starting the pools", starting).await?;
    let plain = server.plain_pool(first.secret(), Some(CONNECTION_LIFETIME));
    screen.line(&format!(
        "{TASKS} tasks on a supervised pool, {PLAIN_TASKS} on a plain one, which keeps its first user"
    ));
    let services = Services {
        calls: Sqlx::<D>::CALLS,
        shared: Sqlx::<D>::SHARED,
        supervised: Service::start(TASKS, &[Supervised::<Sqlx<D>>(db.clone())]),
        plain: Service::start(PLAIN_TASKS, &[Plain::<Sqlx<D>>::new(plain)]),
    };
    let script = Script::start(screen, options.duration, |context| {
        rotate_once(
            Arc::clone(&server),
            Arc::clone(&admin),
            supervisor.clone(),
            db.clone(),
            context,
        )
    });
    let succeeded = show::show(
        screen,
        options,
        &supervisor,
        events,
        &[db],
        services,
        script,
    )
    .await?;
    let remaining = blocking(move || count_remaining(&*server, &admin));
    let (leases, users) = screen
        .while_waiting("counting leases and users", remaining)
        .await?;
    if leases + users > 0 {
        screen.problem(&format!(
            "{leases} leases and {users} users remain after the service has ended"
        ));
    }
    Ok(succeeded && leases + users == 0)
}

fn start_servers<D: Database>() -> Result<(D, Admin), Problem> {
    let server = D::start()?;
    server.create_engine_user(ENGINE_USER, ENGINE_PASSWORD)?;
    let admin = Admin::start()?;
    admin.connect(D::KIND, server.port())?;
    admin.policy()?;
    admin.role(D::KIND, ROLE, TTL, MAX_TTL, Revocation::Terminating)?;
    Ok((server, admin))
}

/// Returns the number of leases on the server and of users in the database.
fn count_remaining<D: Database>(server: &D, admin: &Admin) -> Result<(usize, usize), Problem> {
    Ok((admin.leases(ROLE)?.len(), server.created_users()?))
}

async fn rotate_once<D: Database>(
    server: Arc<D>,
    admin: Arc<Admin>,
    supervisor: Supervisor,
    db: Handle<D::Pools>,
    mut context: ScriptContext,
) -> Tally {
    let mut tally = Tally::default();
    let first = db.generation();
    if context.pause(MANUAL_ROTATION_AT).await {
        context.screen.change("manual rotation");
        if let Err(problem) = supervisor.rotate_now(CREDENTIALS).await {
            tally.problem(problem.to_string());
        }
    }
    context.rest().await;
    let deadline = Instant::now() + TIMEOUT;
    let found = loop {
        let (server, admin) = (Arc::clone(&server), Arc::clone(&admin));
        let found = blocking(move || count_remaining(&*server, &admin)).await;
        if matches!(found, Ok((1, 1))) || Instant::now() >= deadline {
            break found;
        }
        sleep(PAUSE).await;
    };
    let users = u32::try_from(db.generation() - first).unwrap_or(u32::MAX);
    (tally.changes, tally.adopted) = (users, users);
    match found {
        Ok((1, 1)) => tally.summary.push(format!(
            "{} after the first; only the current lease and user remain",
            counted(users, "user")
        )),
        Ok((leases, users)) => tally.problem(format!(
            "{leases} leases and {users} users remain instead of one"
        )),
        Err(problem) => tally.problem(problem.to_string()),
    }
    tally
}
