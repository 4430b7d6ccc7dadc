//! A secret's administrator.

use aws_sdk_secretsmanager::Client;
use claviger_servers::Moto;

use crate::aws;

/// A secret in the store.
#[derive(Debug)]
pub struct Secret {
    /// What it is administered by.
    pub client: Client,
    name: String,
}

impl Secret {
    /// Creates it; answers its first version, too.
    ///
    /// # Panics
    /// As all of them, when the store does not do as it is told.
    pub async fn create(moto: &Moto, name: &str, text: &str) -> (Self, String) {
        let client = Client::new(&aws(&moto.endpoint()));
        let made = client
            .create_secret()
            .name(name)
            .secret_string(text)
            .send()
            .await
            .expect("it is created");
        (
            Self {
                client,
                name: name.to_owned(),
            },
            made.version_id.expect("a version"),
        )
    }

    /// Puts a version at this stage; answers which.
    pub async fn put(&self, stage: &str, text: &str) -> String {
        let put = self
            .client
            .put_secret_value()
            .secret_id(&self.name)
            .secret_string(text)
            .version_stages(stage);
        put.send()
            .await
            .expect("it is put")
            .version_id
            .expect("a version")
    }

    /// Begins a rotation that no function carries out: moto leaves a version without a value at
    /// `AWSCURRENT` then.
    pub async fn rotate_by_nobody(&self) {
        self.client
            .rotate_secret()
            .secret_id(&self.name)
            .send()
            .await
            .expect("it is begun");
    }

    /// Moves a stage.
    pub async fn stage(&self, stage: &str, to: Option<&str>, from: Option<&str>) {
        let moved = self
            .client
            .update_secret_version_stage()
            .secret_id(&self.name)
            .version_stage(stage);
        let moved = moved
            .set_move_to_version_id(to.map(str::to_owned))
            .set_remove_from_version_id(from.map(str::to_owned));
        moved.send().await.expect("it is moved");
    }
}

/// The text of a secret of the user `app`.
pub fn login(password: &str) -> String {
    serde_json::json!({ "engine": "postgres", "username": "app", "password": password }).to_string()
}
