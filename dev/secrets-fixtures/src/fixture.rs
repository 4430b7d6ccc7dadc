//! A database, a secrets manager with its credentials, a proxy that counts requests, and a rotator.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_types::SdkConfig;
use claviger::{Credentials, Provider, SupervisorBuilder};
use claviger_fixtures::{FixtureOn, HandleOf, Server};
use claviger_rotator::{Pending, Rotator};
use claviger_servers::{Moto, Proxy};

use crate::{Users, aws, start_moto};

/// Name of the secret.
pub const SECRET: &str = "orders";

/// A fixture with role `app`, password `password-1`, in the database and in the secret `orders`.
#[derive(Debug)]
pub struct SecretsFixture<S> {
    /// Database, supervisor and callers.
    pub database: FixtureOn<S>,
    /// The secrets manager.
    pub moto: Moto,
    /// The proxy between the service and the secrets manager.
    pub proxy: Proxy,
    /// Rotates the secret. Its requests bypass the proxy.
    pub rotator: Rotator,
    admin: Client,
    passwords: AtomicU32,
}

/// Returns how many rotations a test runs: `CLAVIGER_ROTATIONS`, by default 20.
pub fn rotations() -> usize {
    read_number("CLAVIGER_ROTATIONS").unwrap_or(20)
}

/// Returns how long the database has a new password before the secret does: `CLAVIGER_WINDOW_MS`,
/// by default 500 ms.
pub fn window() -> Duration {
    Duration::from_millis(read_number("CLAVIGER_WINDOW_MS").unwrap_or(500) as u64)
}

fn read_number(variable: &str) -> Option<usize> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("the variable is a number"))
}

impl<S: Server + Users> SecretsFixture<S> {
    /// Creates a fixture whose rotations change the password of these users.
    ///
    /// # Panics
    /// All methods panic if a server returns an error.
    pub async fn new(users: claviger_rotator::Users) -> Self {
        Self::with_database(users, FixtureOn::new()).await
    }

    /// Creates a fixture with a supervisor from this builder.
    pub async fn with_builder(users: claviger_rotator::Users, builder: SupervisorBuilder) -> Self {
        Self::with_database(users, FixtureOn::with_builder(builder)).await
    }

    async fn with_database(
        users: claviger_rotator::Users,
        database: impl Future<Output = FixtureOn<S>>,
    ) -> Self {
        let (database, moto) = tokio::join!(database, start_moto());
        let proxy = Proxy::start(&moto.endpoint()).expect("a proxy starts");
        if users == claviger_rotator::Users::Alternating {
            database.on_the_server(S::create_clone).await;
        }
        let server = Arc::clone(&database.server);
        let set_password = move |user: &str, password: &str| {
            server.set_user_password(user, password);
            Ok(())
        };
        let first = serde_json::json!({
            "engine": "any",
            "username": "app",
            "password": "password-1",
            "masterarn": "arn:of:nobody",
        });
        let admin = Client::new(&aws(&moto.endpoint()));
        let rotator = Rotator::create(admin.clone(), SECRET, users, &first, set_password)
            .await
            .expect("the secret is created");
        Self {
            database,
            moto,
            proxy,
            rotator,
            admin,
            passwords: AtomicU32::new(1),
        }
    }

    /// Returns the service's AWS configuration.
    pub fn aws(&self) -> SdkConfig {
        aws(&self.proxy.endpoint())
    }

    /// Registers a provider as `login`, and a pool `orders` of this factory on it.
    pub async fn pool<P: Provider<Secret = Credentials>>(
        &self,
        provider: P,
        pools: S::Pools,
    ) -> HandleOf<S> {
        let credentials = self
            .database
            .supervisor
            .add_provider("login", provider)
            .await
            .expect("the provider returns a lease");
        self.database.add_pool("orders", &credentials, pools).await
    }

    /// Shuts the service down.
    pub async fn shutdown(&self) {
        self.database
            .supervisor
            .shutdown(Duration::from_secs(5))
            .await;
    }

    /// Runs a rotation's first two steps. With a single user, the database then rejects
    /// `AWSCURRENT`.
    pub async fn open_window(&self) -> Pending {
        let number = self.passwords.fetch_add(1, Ordering::AcqRel) + 1;
        let pending = self
            .rotator
            .create_secret(&format!("password-{number}"))
            .await
            .expect("createSecret");
        self.rotator.set_secret(&pending).await.expect("setSecret");
        pending
    }

    /// Runs a rotation's last two steps.
    pub async fn close_window(&self, pending: &Pending) {
        self.rotator.test_secret(pending).await.expect("testSecret");
        self.rotator
            .finish_secret(pending)
            .await
            .expect("finishSecret");
    }

    /// Terminates all connections of the service and returns how many there were.
    pub async fn terminate_connections(&self) -> usize {
        self.database.on_the_server(S::terminate_both).await
    }

    /// Puts a version with this text at `AWSPENDING`, as a failed rotation function leaves one.
    pub async fn put_pending(&self, text: &str) {
        let put = self
            .admin
            .put_secret_value()
            .secret_id(SECRET)
            .secret_string(text)
            .version_stages("AWSPENDING");
        put.send().await.expect("the version is created");
    }

    /// Moves only `AWSCURRENT` to this version. Other staging labels stay.
    pub async fn move_current(&self, version: &str) {
        let current = self
            .admin
            .get_secret_value()
            .secret_id(SECRET)
            .version_stage("AWSCURRENT")
            .send()
            .await
            .expect("AWSCURRENT exists");
        let request = self
            .admin
            .update_secret_version_stage()
            .secret_id(SECRET)
            .version_stage("AWSCURRENT")
            .move_to_version_id(version);
        request
            .set_remove_from_version_id(current.version_id)
            .send()
            .await
            .expect("the stage is moved");
    }

    /// Removes `AWSPENDING` from this version.
    pub async fn unstage(&self, version: &str) {
        let request = self
            .admin
            .update_secret_version_stage()
            .secret_id(SECRET)
            .version_stage("AWSPENDING");
        request
            .remove_from_version_id(version)
            .send()
            .await
            .expect("the stage is removed");
    }

    /// Returns how often the service requested the secret's value.
    pub fn value_requests(&self) -> usize {
        self.proxy.requests("GetSecretValue")
    }
}
