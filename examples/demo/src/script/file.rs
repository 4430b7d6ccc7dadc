//! Credentials in a file. The password changes repeatedly, alternately announced and unannounced.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use claviger::Supervisor;
use claviger_file::FileProvider;
use tempfile::TempDir;

use super::steps::Steps;
use super::{Script, start_interruptible};
use crate::Problem;
use crate::kind::{Kind, Plain, Supervised};
use crate::options::Options;
use crate::screen::Screen;
use crate::server::{APP, FIRST_PASSWORD, Server};
use crate::service::{Service, TASKS};
use crate::show::{self, Services};

pub(crate) async fn show_password_changes<K: Kind>(
    screen: &Arc<Screen>,
    options: &Options,
) -> Result<bool, Problem> {
    let name = K::Server::NAME;
    let server = start_interruptible(screen, &format!("a {name}"), K::Server::start).await?;
    let server = Arc::new(server);
    let secret = Arc::new(SecretFile::create()?);
    screen.line(&format!(
        "{name} listens on port {}; the service reads its password from a file",
        server.port()
    ));

    let supervisor = Supervisor::start();
    let events = supervisor.events();
    let starting = async {
        let provider = FileProvider::json(secret.path())?;
        let credentials = supervisor.add_provider("password", provider).await?;
        let pools = K::pools(&server)?;
        Ok::<_, Problem>(supervisor.add_pool("orders", &credentials, pools).await?)
    };
    let db = screen.while_waiting("starting the pool", starting).await?;
    let plain_pool = Plain::<K>::open(&server, FIRST_PASSWORD)?;
    screen.line(&if K::SHARED {
        format!(
            "{TASKS} tasks share a supervised connection of {}, {TASKS} a plain one",
            K::NAME
        )
    } else {
        format!(
            "{TASKS} tasks on a supervised pool of {}, {TASKS} on a plain one",
            K::NAME
        )
    });
    let supervised = Service::start(TASKS, &[Supervised::<K>(db.clone())]);
    let plain = Service::start(TASKS, std::slice::from_ref(&plain_pool));
    let script = Script::start(screen, options.duration, |context| {
        let steps = Steps {
            server: Arc::clone(&server),
            secret: Arc::clone(&secret),
            supervisor: supervisor.clone(),
            db: db.clone(),
            plain_pool,
            supervised: Arc::clone(supervised.counters()),
            plain: Arc::clone(plain.counters()),
            context,
        };
        steps.take()
    });
    let services = Services {
        calls: K::CALLS,
        shared: K::SHARED,
        supervised,
        plain,
    };
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

/// The file with the credentials of the supervised pool.
pub(super) struct SecretFile(TempDir);

impl SecretFile {
    fn create() -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("claviger-demo-")
            .tempdir()?;
        let secret = Self(folder);
        secret.write(FIRST_PASSWORD)?;
        Ok(secret)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("secret.json")
    }

    /// Replaces the file by a rename, as Kubernetes and Vault Agent do.
    pub(super) fn write(&self, password: &str) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.0.path())?;
        writeln!(file, r#"{{"username": "{APP}", "password": "{password}"}}"#)?;
        file.persist(self.path())?;
        Ok(())
    }
}
