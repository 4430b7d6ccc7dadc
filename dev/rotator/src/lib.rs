//! Rotates a secret in four steps, as AWS's rotation functions do: they come from AWS as Python for
//! a Lambda, and moto has no rotation of its own.
//!
//! A step can be left out, or be taken back: a rotation that fails somewhere is what services have
//! to live through.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::DisplayErrorContext;
use serde_json::{Value, json};

/// What went wrong, in words.
pub type Problem = Box<dyn Error + Send + Sync>;

/// Whose password a rotation changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users {
    /// That of the one user there is: what worked before works no more.
    Single,
    /// That of the user who is not in use, `NAME` and `NAME_clone` in turn: what worked before
    /// works for one more rotation.
    Alternating,
}

/// One secret, the database behind it, and how it is rotated.
#[derive(Clone)]
pub struct Rotator {
    client: Client,
    secret: String,
    users: Users,
    set_password: Arc<SetPassword>,
}

/// Gives a user of the database a password.
type SetPassword = dyn Fn(&str, &str) -> Result<(), Problem> + Send + Sync;

/// The version that a rotation has made.
#[derive(Clone)]
pub struct Pending {
    /// Its `VersionId`.
    pub version: String,
    /// The user whose password it changes.
    pub user: String,
    /// The password that is to be.
    pub password: String,
}

impl Rotator {
    /// Makes the secret, in the shape of a database's of AWS. `set_password` gives a user of the
    /// database a password; it may block.
    ///
    /// # Errors
    /// What Secrets Manager says.
    pub async fn create(
        client: Client,
        secret: &str,
        users: Users,
        first: &Value,
        set_password: impl Fn(&str, &str) -> Result<(), Problem> + Send + Sync + 'static,
    ) -> Result<Self, Problem> {
        client
            .create_secret()
            .name(secret)
            .secret_string(first.to_string())
            .send()
            .await
            .map_err(said)?;
        Ok(Self {
            client,
            secret: secret.to_owned(),
            users,
            set_password: Arc::new(set_password),
        })
    }

    /// Step 1: a new version at AWSPENDING, with this password and, where users alternate, the
    /// other user.
    ///
    /// # Errors
    /// What Secrets Manager says.
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
        let put = self
            .client
            .put_secret_value()
            .secret_id(&self.secret)
            .secret_string(value.to_string());
        let answer = put
            .version_stages("AWSPENDING")
            .send()
            .await
            .map_err(said)?;
        let version = answer.version_id.ok_or("the new version has no id")?;
        Ok(Pending {
            version,
            user,
            password: password.to_owned(),
        })
    }

    /// Step 2: the database takes the password. From here on AWSCURRENT may be rejected.
    ///
    /// # Errors
    /// What the database says.
    pub async fn set_secret(&self, pending: &Pending) -> Result<(), Problem> {
        self.give(pending.user.clone(), pending.password.clone())
            .await
    }

    /// Step 3: whether the version at AWSPENDING is the one that was made. (AWS's functions log in
    /// with it, too.)
    ///
    /// # Errors
    /// When it is not, or what Secrets Manager says.
    pub async fn test_secret(&self, pending: &Pending) -> Result<(), Problem> {
        let (version, value) = self.version_at("AWSPENDING").await?;
        if version != pending.version || value["password"] != pending.password.as_str() {
            return Err("another version is at AWSPENDING".into());
        }
        Ok(())
    }

    /// Step 4: AWSCURRENT moves there; what it was at becomes AWSPREVIOUS.
    ///
    /// # Errors
    /// What Secrets Manager says.
    pub async fn finish_secret(&self, pending: &Pending) -> Result<(), Problem> {
        let (current, _) = self.version_at("AWSCURRENT").await?;
        let moved = self
            .client
            .update_secret_version_stage()
            .secret_id(&self.secret)
            .version_stage("AWSCURRENT");
        moved
            .move_to_version_id(&pending.version)
            .remove_from_version_id(current)
            .send()
            .await
            .map_err(said)?;
        self.unstage(pending).await
    }

    /// Takes a rotation back before its last step: the database has the password of AWSCURRENT
    /// again, and nothing is at AWSPENDING.
    ///
    /// # Errors
    /// What Secrets Manager or the database says.
    pub async fn roll_back(&self, pending: &Pending) -> Result<(), Problem> {
        let (_, value) = self.version_at("AWSCURRENT").await?;
        if value["username"] == pending.user.as_str() {
            let password = value["password"]
                .as_str()
                .ok_or("AWSCURRENT has no password")?;
            self.give(pending.user.clone(), password.to_owned()).await?;
        }
        self.unstage(pending).await
    }

    async fn unstage(&self, pending: &Pending) -> Result<(), Problem> {
        let staged = self
            .client
            .update_secret_version_stage()
            .secret_id(&self.secret)
            .version_stage("AWSPENDING");
        staged
            .remove_from_version_id(&pending.version)
            .send()
            .await
            .map_err(said)?;
        Ok(())
    }

    async fn version_at(&self, stage: &str) -> Result<(String, Value), Problem> {
        let answer = self
            .client
            .get_secret_value()
            .secret_id(&self.secret)
            .version_stage(stage)
            .send()
            .await
            .map_err(said)?;
        let version = answer.version_id.ok_or("a version without an id")?;
        let value = serde_json::from_str(&answer.secret_string.ok_or("a version without a text")?)?;
        Ok((version, value))
    }

    async fn give(&self, user: String, password: String) -> Result<(), Problem> {
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

fn said(error: impl Error) -> Problem {
    DisplayErrorContext(error).to_string().into()
}
