//! A Vault or OpenBao server with a database engine, and its administrator, whose methods block.

#[cfg(feature = "fixture")]
mod async_admin;
mod auth;
#[cfg(feature = "fixture")]
mod fixture;
mod secrets;

use std::io;

use claviger_servers::OpenBao;
use serde_json::{Value, json};

#[cfg(feature = "fixture")]
pub use async_admin::AsyncAdmin;
#[cfg(feature = "fixture")]
pub use fixture::{
    EngineDatabase, Identity, ORDERS, ROLE, VaultFixture, assert_only_expired_leases_failed,
    next_generation, start_callers,
};

/// Any error.
pub type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Mount path of the database engine.
pub const MOUNT: &str = "database";
/// The user with which the engine creates others.
pub const ENGINE_USER: &str = "engine";
/// That user's password.
pub const ENGINE_PASSWORD: &str = "engine-password";

/// The kind of the engine's database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL: users become members of the role `app`.
    PostgreSql,
    /// MariaDB: users get privileges on the database `orders`.
    MariaDb,
}

/// Rejects further logins of a user. It may have been dropped already.
const REJECT_LOGINS: &str = r#"DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{{name}}') THEN
        ALTER ROLE "{{name}}" NOLOGIN;
    END IF;
END $$"#;

/// Terminates a user's connections, and waits until they have closed. A login that has not ended is
/// in `pg_locks`, but not in `pg_stat_activity`.
const END_CONNECTIONS: &str = "DO $$ BEGIN
    FOR attempt IN 1..500 LOOP
        PERFORM pg_stat_clear_snapshot();
        EXIT WHEN NOT EXISTS (
            SELECT FROM pg_locks WHERE locktype = 'virtualxid'
                AND pid NOT IN (SELECT pid FROM pg_stat_activity));
        PERFORM pg_sleep(0.01);
    END LOOP;
    PERFORM pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = '{{name}}';
END $$";

/// How the engine revokes a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// The engine's default: the role is dropped, and open connections remain.
    Default,
    /// Open connections end before the role loses its privileges, so that no statement is executed
    /// without them. On PostgreSQL only; elsewhere the default applies.
    Terminating,
}

/// The server's administrator. Errors contain the server's message.
#[derive(Debug)]
pub struct Admin {
    /// The server.
    pub vault: OpenBao,
}

impl Admin {
    /// Starts an empty server.
    ///
    /// # Errors
    /// The server does not start.
    pub fn start() -> Result<Self, Problem> {
        Ok(Self {
            vault: OpenBao::start()?,
        })
    }

    /// Writes to a path as root.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn write(&self, path: &str, body: &Value) -> Result<Value, Problem> {
        self.request("POST", path, Some(body))
    }

    /// Reads a path as root.
    ///
    /// # Errors
    /// Errors of the server, also if there is nothing at that path.
    pub fn read(&self, path: &str) -> Result<Value, Problem> {
        self.request("GET", path, None)
    }

    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Problem> {
        let body = body.map(ToString::to_string);
        let response = self.vault.request(method, path, body.as_deref())?;
        if !response.is_success() {
            return Err(io::Error::other(format!("{method} {path}: {response:?}")).into());
        }
        Ok(if response.body.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&response.body)?
        })
    }

    /// Mounts the database engine and connects it to a database on this port, as [`ENGINE_USER`].
    ///
    /// # Errors
    /// Errors of the server; the engine connects at once.
    pub fn connect(&self, kind: Kind, port: u16) -> Result<(), Problem> {
        self.write(
            &format!("sys/mounts/{MOUNT}"),
            &json!({ "type": "database" }),
        )?;
        let (plugin, url) = match kind {
            Kind::PostgreSql => (
                "postgresql-database-plugin",
                format!(
                    "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{port}/orders?sslmode=disable"
                ),
            ),
            Kind::MariaDb => (
                "mysql-database-plugin",
                format!("{{{{username}}}}:{{{{password}}}}@tcp(127.0.0.1:{port})/"),
            ),
        };
        let settings = json!({
            "plugin_name": plugin,
            "connection_url": url,
            "username": ENGINE_USER,
            "password": ENGINE_PASSWORD,
            "allowed_roles": "*",
            "max_open_connections": 4,
        });
        self.write(&format!("{MOUNT}/config/orders"), &settings)
            .map(drop)
    }

    /// Creates a dynamic role whose leases have these lifetimes, in seconds.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn role(
        &self,
        kind: Kind,
        name: &str,
        ttl: u64,
        max_ttl: u64,
        revocation: Revocation,
    ) -> Result<(), Problem> {
        let creation = match kind {
            Kind::PostgreSql => {
                json!([
                    r#"CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE app"#
                ])
            }
            Kind::MariaDb => {
                json!([
                    "CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}'",
                    "GRANT SELECT, INSERT ON orders.* TO '{{name}}'@'%'",
                ])
            }
        };
        let terminating = json!([
            REJECT_LOGINS,
            // Otherwise logins would succeed until the end of the engine's transaction.
            "COMMIT",
            END_CONNECTIONS,
            "BEGIN",
            r#"DROP ROLE IF EXISTS "{{name}}""#,
        ]);
        let mut role = json!({
            "db_name": "orders",
            "creation_statements": creation,
            "default_ttl": ttl,
            "max_ttl": max_ttl,
        });
        if revocation == Revocation::Terminating && kind == Kind::PostgreSql {
            role["revocation_statements"] = terminating;
        }
        self.write(&format!("{MOUNT}/roles/{name}"), &role)
            .map(drop)
    }

    /// Returns the ids of a dynamic role's leases.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn leases(&self, role: &str) -> Result<Vec<String>, Problem> {
        let path = format!("sys/leases/lookup/{MOUNT}/creds/{role}?list=true");
        let response = self.vault.request("GET", &path, None)?;
        if response.status == 404 {
            return Ok(Vec::new());
        }
        if !response.is_success() {
            return Err(io::Error::other(format!("{path}: {response:?}")).into());
        }
        let body: Value = serde_json::from_str(&response.body)?;
        let keys = body["data"]["keys"].as_array().cloned().unwrap_or_default();
        Ok(keys
            .iter()
            .filter_map(Value::as_str)
            .map(|key| format!("{MOUNT}/creds/{role}/{key}"))
            .collect())
    }

    /// Revokes a lease.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn revoke_lease(&self, lease: &str) -> Result<(), Problem> {
        self.write(
            "sys/leases/revoke",
            &json!({ "lease_id": lease, "sync": true }),
        )
        .map(drop)
    }

    /// Writes the policy `orders`, with the permissions that the providers need.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn policy(&self) -> Result<(), Problem> {
        let policy = r#"
            path "database/creds/*" { capabilities = ["read"] }
            path "database/static-creds/*" { capabilities = ["read"] }
            path "kv/data/*" { capabilities = ["read"] }
            path "kv/metadata/*" { capabilities = ["read"] }
            path "sys/leases/renew" { capabilities = ["update"] }
            path "sys/leases/revoke" { capabilities = ["update"] }
        "#;
        self.write("sys/policies/acl/orders", &json!({ "policy": policy }))
            .map(drop)
    }
}

/// Returns a JSON string's text.
///
/// # Errors
/// Any other value.
pub fn text(value: &Value) -> Result<String, Problem> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| "the response has no such string".into())
}
