//! What is issued besides dynamic users: a user whose password is rotated, and secrets that are
//! kept.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Admin, MOUNT, Problem};

/// A store that has just been mounted says for a moment that it is upgrading.
const UPGRADES: u32 = 250;
const PAUSE: Duration = Duration::from_millis(20);

impl Admin {
    /// Makes a static role of the same name for a user of the database, whose password is rotated
    /// at once and then every so many seconds: 5 at least.
    ///
    /// # Errors
    /// When it is not made.
    pub fn static_role(&self, user: &str, seconds: u64) -> Result<(), Problem> {
        let role = json!({ "db_name": "orders", "username": user, "rotation_period": format!("{seconds}s") });
        self.write(&format!("{MOUNT}/static-roles/{user}"), &role)
            .map(drop)
    }

    /// Rotates a static role's password by hand.
    ///
    /// # Errors
    /// When it is not done.
    pub fn rotate_role(&self, user: &str) -> Result<(), Problem> {
        self.write(&format!("{MOUNT}/rotate-role/{user}"), &json!({}))
            .map(drop)
    }

    /// Mounts a KV store of version 2 at `kv`, with a first version of a secret `orders`.
    ///
    /// # Errors
    /// When it is not there.
    pub fn kv(&self, data: &Value) -> Result<(), Problem> {
        self.write(
            "sys/mounts/kv",
            &json!({ "type": "kv", "options": { "version": "2" } }),
        )?;
        let mut left = UPGRADES;
        loop {
            match self.put(data) {
                Err(_) if left > 0 => left -= 1,
                done => return done,
            }
            thread::sleep(PAUSE);
        }
    }

    /// Writes another version of that secret.
    ///
    /// # Errors
    /// When it is not written.
    pub fn put(&self, data: &Value) -> Result<(), Problem> {
        self.write("kv/data/orders", &json!({ "data": data }))
            .map(drop)
    }

    /// Does something to versions of that secret: `delete`, `undelete`, `destroy`.
    ///
    /// # Errors
    /// When it is not done.
    pub fn versions(&self, what: &str, versions: &[u64]) -> Result<(), Problem> {
        self.write(
            &format!("kv/{what}/orders"),
            &json!({ "versions": versions }),
        )
        .map(drop)
    }
}
