//! Credentials in a file. The password changes repeatedly, alternately announced and unannounced.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use claviger::{Handle, Supervisor};
use claviger_file::FileProvider;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{Script, ScriptContext, Tally, blocking, change_and_wait, start_interruptible};
use crate::database::{Access, Database};
use crate::options::Options;
use crate::screen::Screen;
use crate::{Problem, show};

/// Pause between the adoption of a change and the next change.
const PAUSE: Duration = Duration::from_millis(1_200);
/// Delay of the file after an unannounced change of the password.
const LAG: Duration = Duration::from_millis(500);

pub(crate) async fn show_password_changes<D: Database>(
    screen: &Arc<Screen>,
    options: &Options,
) -> Result<bool, Problem> {
    screen.line(&format!("starting a {} …", D::NAME));
    let scenario = Arc::new(start_interruptible(Scenario::<D>::start).await?);
    screen.line(&format!(
        "{} listens on port {}; the secret is in a file that the service reads",
        D::NAME,
        scenario.server.port()
    ));

    let supervisor = Supervisor::start();
    let events = supervisor.events();
    let credentials = supervisor
        .add_provider(
            "orders-credentials",
            FileProvider::json(scenario.secret_file())?,
        )
        .await?;
    let db = supervisor
        .add_pool("orders", &credentials, scenario.server.pools())
        .await?;
    // The script keeps the server running until the service has ended.
    let script = Script::start(screen, options.duration, |context| {
        rotate(Arc::clone(&scenario), db.clone(), context)
    });
    show::show(screen, &supervisor, events, &[db], script).await
}

/// The server and the file with its secret.
struct Scenario<D> {
    server: D,
    folder: TempDir,
}

impl<D: Database> Scenario<D> {
    fn start() -> Result<Self, Problem> {
        let folder = tempfile::Builder::new()
            .prefix("claviger-demo-")
            .tempdir()?;
        let scenario = Self {
            server: D::start(Access::Password)?,
            folder,
        };
        scenario.write_secret("password-0")?;
        Ok(scenario)
    }

    fn secret_file(&self) -> PathBuf {
        self.folder.path().join("secret.json")
    }

    /// Replaces the file by a rename, as Kubernetes and Vault Agent do.
    fn write_secret(&self, password: &str) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.folder.path())?;
        writeln!(file, r#"{{"username": "app", "password": "{password}"}}"#)?;
        file.persist(self.secret_file())?;
        Ok(())
    }
}

async fn rotate<D: Database>(
    scenario: Arc<Scenario<D>>,
    db: Handle<D::Pools>,
    mut context: ScriptContext,
) -> Tally {
    let mut tally = Tally::default();
    let (mut announced, mut unannounced) = (0, 0);
    while context.pause(PAUSE).await {
        // No change is made that cannot be adopted before the end. Both kinds happen at least once.
        if Instant::now() + LAG >= context.end && unannounced > 0 {
            break;
        }
        tally.changes += 1;
        let number = tally.changes;
        let is_announced = announced == unannounced;
        let what = if is_announced {
            announced += 1;
            "announced: the file is rewritten, then the password changes"
        } else {
            unannounced += 1;
            "unannounced: the password changes, the file half a second later"
        };
        context.screen.change(&format!("change {number}, {what}"));
        match change_and_wait(
            &db,
            change(&scenario, is_announced, format!("password-{number}")),
        )
        .await
        {
            Ok(()) => tally.adopted += 1,
            Err(problem) => {
                tally.problem(format!("change {number}: {problem}"));
                break;
            }
        }
    }
    context.rest().await;
    tally.summary.push(format!(
        "{announced} announced and {unannounced} unannounced changes, {} adopted; each new \
         credential was verified before queries used it",
        tally.adopted
    ));
    if unannounced == 0 {
        tally.problem("stopped before both kinds of change had occurred");
    }
    tally
}

async fn change<D: Database>(
    scenario: &Arc<Scenario<D>>,
    announced: bool,
    password: String,
) -> Result<(), Problem> {
    let (first, second) = (Arc::clone(scenario), Arc::clone(scenario));
    let (before, after) = (password.clone(), password);
    if announced {
        blocking(move || Ok(first.write_secret(&before)?)).await?;
        blocking(move || second.server.change_password("app", &after)).await
    } else {
        blocking(move || first.server.change_password("app", &before)).await?;
        sleep(LAG).await;
        blocking(move || Ok(second.write_secret(&after)?)).await
    }
}
