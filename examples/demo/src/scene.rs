//! The world around the service: a PostgreSQL server and the file in which its secret is mounted.

use std::io::{self, Write};
use std::path::PathBuf;

use claviger_servers::Postgres;
use tempfile::TempDir;

type Problem = Box<dyn std::error::Error + Send + Sync>;

pub(crate) struct Scene {
    server: Postgres,
    folder: TempDir,
}

impl Scene {
    /// A server with the role `app` and its database, and the file with the first password.
    pub(crate) async fn start() -> Result<Self, Problem> {
        tokio::task::spawn_blocking(|| {
            let scene = Self { server: Postgres::start()?, folder: tempfile::Builder::new().prefix("claviger-demo-").tempdir()? };
            scene.server.create_role("app", "password-0")?;
            scene.server.create_database("orders", "app")?;
            scene.server.sql_in(
                "orders",
                "CREATE TABLE orders AS SELECT n AS id FROM generate_series(1, 1000) n; ALTER TABLE orders OWNER TO app",
            )?;
            scene.write_secret("password-0")?;
            Ok(scene)
        })
        .await?
    }

    pub(crate) fn host(&self) -> &str {
        self.server.host()
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.port()
    }

    pub(crate) fn secret_file(&self) -> PathBuf {
        self.folder.path().join("secret.json")
    }

    /// Rewrites the file as Kubernetes and Vault Agent do: whole, by a rename.
    pub(crate) fn write_secret(&self, password: &str) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(self.folder.path())?;
        writeln!(file, r#"{{"username": "app", "password": "{password}"}}"#)?;
        file.persist(self.secret_file())?;
        Ok(())
    }

    /// `ALTER ROLE app PASSWORD …`
    pub(crate) fn alter_role(&self, password: &str) -> Result<(), Problem> {
        Ok(self.server.set_password("app", password)?)
    }
}
