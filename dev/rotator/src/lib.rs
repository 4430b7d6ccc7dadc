//! Rotates a secret in four steps, as AWS's rotation functions do. AWS provides them as Python code
//! for a Lambda, and moto has none.
//!
//! A step can be left out or rolled back, because services must survive a rotation that fails
//! anywhere.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::DisplayErrorContext;
use serde_json::{Value, json};

/// Any error.
pub type Problem = Box<dyn Error + Send + Sync>;

/// The users whose password a rotation changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    /// The single user: its previous password stops working.
    Single,
    /// The user that is not in use, `NAME` and `NAME_clone` in turn: the previous credentials
    /// remain valid for one more rotation.
    Alternating,
}

/// One secret, its database user or users, and the rotation.
#[derive(Clone)]
pub struct Rotator {
    client: Client,
    secret: String,
    users: Users,
    set_password: Arc<SetPassword>,
}

/// Sets the password of a database user.
type SetPassword = dyn Fn(&str, &str) -> Result<(), Problem> + Send + Sync;

/// A version that a rotation has created.
#[derive(Clone)]
pub struct Pending {
    /// The `VersionId`.
    pub version: String,
    /// The user whose password changes.
    pub user: String,
    /// The new password.
    pub password: String,
}

impl Rotator {
    /// Creates the secret. `credentials` has the JSON fields of AWS's database secrets.
    /// `set_password` sets the password of a database user; it may block.
    ///
    /// # Errors
    /// Errors of Secrets Manager.
    pub async fn create(
        client: Client,
        secret: &str,
        users: Users,
        credentials: &Value,
        set_password: impl Fn(&str, &str) -> Result<(), Problem> + Send + Sync + 'static,
    ) -> Result<Self, Problem> {
        client
            .create_secret()
            .name(secret)
            .secret_string(credentials.to_string())
            .send()
            .await
            .map_err(describe)?;
        Ok(Self {
            client,
            secret: secret.to_owned(),
            users,
            set_password: Arc::new(set_password),
        })
    }

    /// Step 1: creates a version at AWSPENDING with this password. With alternating users, it
    /// belongs to the other user.
    ///
    /// # Errors
    /// Errors of Secrets Manager.
    pub async fn create_secret(&self, password: &str) -> Result<Pending, Problem> {
        let (_, mut value) = self.version_at("AWSCURRENT").await?;
        let user = value["username"]
            .as_str()
            .ok_or("AWSCURRENT has no username")?;
        let user = match (self.users, user.strip_suffix("_clone")) {
            (Users::Single, _) => user.to_owned(),
            (Users::Alternating, None) => format!("{user}_clone"),
            (Users::Alternating, Some(first)) => first.to_owned(),
        };
        value["username"] = json!(user);
        value["password"] = json!(password);
        let request = self
            .client
            .put_secret_value()
            .secret_id(&self.secret)
            .secret_string(value.to_string());
        let created = request
            .version_stages("AWSPENDING")
            .send()
            .await
            .map_err(describe)?;
        let version = created.version_id.ok_or("the new version has no id")?;
        Ok(Pending {
            version,
            user,
            password: password.to_owned(),
        })
    }

    /// Step 2: sets the password in the database. From here on AWSCURRENT may be rejected.
    ///
    /// # Errors
    /// Errors of the database.
    pub async fn set_secret(&self, pending: &Pending) -> Result<(), Problem> {
        self.set_password(pending.user.clone(), pending.password.clone())
            .await
    }

    /// Step 3: checks that AWSPENDING is the version of this rotation. (AWS's functions also log in
    /// with it.)
    ///
    /// # Errors
    /// Another version at AWSPENDING, or errors of Secrets Manager.
    pub async fn test_secret(&self, pending: &Pending) -> Result<(), Problem> {
        let (version, value) = self.version_at("AWSPENDING").await?;
        if version != pending.version || value["password"] != pending.password.as_str() {
            return Err("another version is at AWSPENDING".into());
        }
        Ok(())
    }

    /// Step 4: moves AWSCURRENT to the new version; the previous version becomes AWSPREVIOUS.
    ///
    /// # Errors
    /// Errors of Secrets Manager.
    pub async fn finish_secret(&self, pending: &Pending) -> Result<(), Problem> {
        let (current, _) = self.version_at("AWSCURRENT").await?;
        let request = self
            .client
            .update_secret_version_stage()
            .secret_id(&self.secret)
            .version_stage("AWSCURRENT");
        request
            .move_to_version_id(&pending.version)
            .remove_from_version_id(current)
            .send()
            .await
            .map_err(describe)?;
        self.unstage(pending).await
    }

    /// Rolls a rotation back before its last step: the database has the password of AWSCURRENT
    /// again, and AWSPENDING is removed.
    ///
    /// # Errors
    /// Errors of Secrets Manager or the database.
    pub async fn roll_back(&self, pending: &Pending) -> Result<(), Problem> {
        let (_, value) = self.version_at("AWSCURRENT").await?;
        if value["username"] == pending.user.as_str() {
            let password = value["password"]
                .as_str()
                .ok_or("AWSCURRENT has no password")?;
            self.set_password(pending.user.clone(), password.to_owned())
                .await?;
        }
        self.unstage(pending).await
    }

    async fn unstage(&self, pending: &Pending) -> Result<(), Problem> {
        let request = self
            .client
            .update_secret_version_stage()
            .secret_id(&self.secret)
            .version_stage("AWSPENDING");
        request
            .remove_from_version_id(&pending.version)
            .send()
            .await
            .map_err(describe)?;
        Ok(())
    }

    async fn version_at(&self, stage: &str) -> Result<(String, Value), Problem> {
        let fetched = self
            .client
            .get_secret_value()
            .secret_id(&self.secret)
            .version_stage(stage)
            .send()
            .await
            .map_err(describe)?;
        let version = fetched.version_id.ok_or("the version has no id")?;
        let value = serde_json::from_str(&fetched.secret_string.ok_or("the version has no text")?)?;
        Ok((version, value))
    }

    async fn set_password(&self, user: String, password: String) -> Result<(), Problem> {
        let set_password = Arc::clone(&self.set_password);
        tokio::task::spawn_blocking(move || set_password(&user, &password)).await?
    }
}

impl fmt::Debug for Rotator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotator")
            .field("secret", &self.secret)
            .field("users", &self.users)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("version", &self.version)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

fn describe(error: impl Error) -> Problem {
    DisplayErrorContext(error).to_string().into()
}
