//! A secret and its administration.

use aws_sdk_secretsmanager::Client;
use claviger_servers::Moto;

use crate::aws;

/// A secret in the secrets manager.
#[derive(Debug)]
pub struct Secret {
    /// The administrator's client.
    pub client: Client,
    name: String,
}

impl Secret {
    /// Creates the secret and returns it with the id of its first version.
    ///
    /// # Panics
    /// All methods panic if the server returns an error.
    pub async fn create(moto: &Moto, name: &str, text: &str) -> (Self, String) {
        let client = Client::new(&aws(&moto.endpoint()));
        let created = client
            .create_secret()
            .name(name)
            .secret_string(text)
            .send()
            .await
            .expect("the secret is created");
        (
            Self {
                client,
                name: name.to_owned(),
            },
            created.version_id.expect("a version"),
        )
    }

    /// Puts a version at this staging label and returns its id.
    pub async fn put(&self, label: &str, text: &str) -> String {
        let put = self
            .client
            .put_secret_value()
            .secret_id(&self.name)
            .secret_string(text)
            .version_stages(label);
        put.send()
            .await
            .expect("the version is created")
            .version_id
            .expect("a version")
    }

    /// Starts a rotation without a function: moto then leaves a version without a value at
    /// `AWSCURRENT`.
    pub async fn start_rotation_without_function(&self) {
        self.client
            .rotate_secret()
            .secret_id(&self.name)
            .send()
            .await
            .expect("the rotation starts");
    }

    /// Moves a staging label from one version to another. Without `to`, removes it.
    pub async fn move_label(&self, label: &str, to: Option<&str>, from: Option<&str>) {
        let request = self
            .client
            .update_secret_version_stage()
            .secret_id(&self.name)
            .version_stage(label);
        let request = request
            .set_move_to_version_id(to.map(str::to_owned))
            .set_remove_from_version_id(from.map(str::to_owned));
        request.send().await.expect("the label is moved");
    }
}

/// Returns a secret's text, with user `app` and this password.
pub fn secret_text(password: &str) -> String {
    serde_json::json!({ "engine": "postgres", "username": "app", "password": password }).to_string()
}
