//! A database, a store that holds its login, a proxy in between that counts, and whoever rotates
//! it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_types::SdkConfig;
use claviger_fixtures::{FixtureOn, Server};
use claviger_rotator::{Pending, Rotator};
use claviger_servers::{Moto, Proxy};

use crate::{Users, aws, moto};

/// The secret's name.
pub const SECRET: &str = "orders";

/// The fixture: role `app` with `password-1` in the database and in the secret `orders`.
#[derive(Debug)]
pub struct SecretsFixture<S> {
    /// Database, supervisor, and what callers need.
    pub database: FixtureOn<S>,
    /// The store.
    pub moto: Moto,
    /// What the service asks it through.
    pub proxy: Proxy,
    /// Whoever rotates the secret, past the proxy.
    pub rotator: Rotator,
    admin: Client,
    passwords: AtomicU32,
}

/// How many rotations a case is shown with: 20, or as `CLAVIGER_ROTATIONS` says.
pub fn rotations() -> usize {
    number("CLAVIGER_ROTATIONS").unwrap_or(20)
}

/// How long the database has the new password before the store says so: 500 ms, or as
/// `CLAVIGER_WINDOW_MS` says.
pub fn window() -> Duration {
    Duration::from_millis(number("CLAVIGER_WINDOW_MS").unwrap_or(500) as u64)
}

fn number(variable: &str) -> Option<usize> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("the variable is a number"))
}

impl<S: Server + Users> SecretsFixture<S> {
    /// With a secret that is rotated in this way.
    ///
    /// # Panics
    /// As all of it, when the servers do not do as they are told.
    pub async fn new(users: claviger_rotator::Users) -> Self {
        let (stage, moto) = tokio::join!(FixtureOn::<S>::new(), moto());
        let proxy = Proxy::start(&moto.endpoint()).expect("a proxy starts");
        if users == claviger_rotator::Users::Alternating {
            stage.on_the_server(S::clone_app).await;
        }
        let server = Arc::clone(&stage.server);
        let set_password = move |user: &str, password: &str| {
            server.give_password(user, password);
            Ok(())
        };
        let first = serde_json::json!({ "engine": "any", "username": "app", "password": "password-1", "masterarn": "arn:of:nobody" });
        let admin = Client::new(&aws(&moto.endpoint()));
        let rotator = Rotator::create(admin.clone(), SECRET, users, &first, set_password)
            .await
            .expect("the secret is made");
        Self {
            database: stage,
            moto,
            proxy,
            rotator,
            admin,
            passwords: AtomicU32::new(1),
        }
    }

    /// The service's own configuration.
    pub fn aws(&self) -> SdkConfig {
        aws(&self.proxy.endpoint())
    }

    /// The first two steps: from here on, with a single user, `AWSCURRENT` is rejected.
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

    /// The last two steps.
    pub async fn close_window(&self, pending: &Pending) {
        self.rotator.test_secret(pending).await.expect("testSecret");
        self.rotator
            .finish_secret(pending)
            .await
            .expect("finishSecret");
    }

    /// Ends all connections of the service; answers how many.
    pub async fn cut_connections(&self) -> usize {
        self.database.on_the_server(S::cut_both).await
    }

    /// Whatever text at `AWSPENDING`, as a function that fails leaves it.
    pub async fn put_pending(&self, text: &str) {
        let put = self
            .admin
            .put_secret_value()
            .secret_id(SECRET)
            .secret_string(text)
            .version_stages("AWSPENDING");
        put.send().await.expect("it is put");
    }

    /// `AWSCURRENT` is at this version, and nothing else is moved.
    pub async fn move_current(&self, version: &str) {
        let current = self
            .admin
            .get_secret_value()
            .secret_id(SECRET)
            .version_stage("AWSCURRENT")
            .send()
            .await
            .expect("there is one");
        let moved = self
            .admin
            .update_secret_version_stage()
            .secret_id(SECRET)
            .version_stage("AWSCURRENT")
            .move_to_version_id(version);
        moved
            .set_remove_from_version_id(current.version_id)
            .send()
            .await
            .expect("it is moved");
    }

    /// This version is not pending any more.
    pub async fn unstage(&self, version: &str) {
        let moved = self
            .admin
            .update_secret_version_stage()
            .secret_id(SECRET)
            .version_stage("AWSPENDING");
        moved
            .remove_from_version_id(version)
            .send()
            .await
            .expect("it is moved");
    }

    /// How often the secret's value was asked for.
    pub fn values_asked_for(&self) -> usize {
        self.proxy.requests("GetSecretValue")
    }
}
