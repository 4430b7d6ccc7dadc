//! Secrets besides dynamic users: static roles, whose password the engine rotates, and KV secrets.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Admin, MOUNT, Problem};

/// Maximum number of retries while a newly mounted KV engine is upgrading.
const RETRIES: u32 = 250;
const PAUSE: Duration = Duration::from_millis(20);

impl Admin {
    /// Creates a static role of the same name for a database user. The engine rotates its password
    /// at once and then every `seconds`, at least 5.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn static_role(&self, user: &str, seconds: u64) -> Result<(), Problem> {
        let role = json!({
            "db_name": "orders",
            "username": user,
            "rotation_period": format!("{seconds}s"),
        });
        self.write(&format!("{MOUNT}/static-roles/{user}"), &role)
            .map(drop)
    }

    /// Rotates a static role's password.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn rotate_role(&self, user: &str) -> Result<(), Problem> {
        self.write(&format!("{MOUNT}/rotate-role/{user}"), &json!({}))
            .map(drop)
    }

    /// Mounts a KV engine of version 2 at `kv`, with a first version of a secret `orders`.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn kv(&self, data: &Value) -> Result<(), Problem> {
        self.write(
            "sys/mounts/kv",
            &json!({ "type": "kv", "options": { "version": "2" } }),
        )?;
        let mut left = RETRIES;
        loop {
            match self.put(data) {
                Err(_) if left > 0 => left -= 1,
                result => return result,
            }
            thread::sleep(PAUSE);
        }
    }

    /// Writes another version of that secret.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn put(&self, data: &Value) -> Result<(), Problem> {
        self.write("kv/data/orders", &json!({ "data": data }))
            .map(drop)
    }

    /// Applies `delete`, `undelete` or `destroy` to versions of that secret.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn change_versions(&self, operation: &str, versions: &[u64]) -> Result<(), Problem> {
        self.write(
            &format!("kv/{operation}/orders"),
            &json!({ "versions": versions }),
        )
        .map(drop)
    }
}
