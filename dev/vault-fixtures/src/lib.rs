//! A server of secrets with a database engine, as its administrator sees it. All of it blocks.

mod auth;
#[cfg(feature = "fixture")]
mod clerk;
#[cfg(feature = "fixture")]
mod fixture;
mod secrets;

use std::io;

use claviger_servers::OpenBao;
use serde_json::{Value, json};

#[cfg(feature = "fixture")]
pub use clerk::Clerk;
#[cfg(feature = "fixture")]
pub use fixture::{Behind, Identity, ROLE, VaultFixture, next_generation};

/// What can go wrong.
pub type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Where the engine and its roles are.
pub const MOUNT: &str = "database";
/// The user by which the engine makes others.
pub const ENGINE_USER: &str = "engine";
/// That user's password.
pub const ENGINE_PASSWORD: &str = "engine-password";

/// The database behind the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL: users are made members of the role `app`.
    PostgreSql,
    /// MariaDB: users get rights on the database `orders`.
    MariaDb,
}

/// How the engine takes a user back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// As the engine does of itself: the role is dropped, and open sessions stay.
    Default,
    /// Open sessions are ended first. On PostgreSQL alone; elsewhere it is the default.
    Terminating,
}

/// The server, by what its administrator does. What fails is an error with the server's words.
#[derive(Debug)]
pub struct Admin {
    /// The server.
    pub vault: OpenBao,
}

impl Admin {
    /// A server with nothing in it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> Result<Self, Problem> {
        Ok(Self {
            vault: OpenBao::start()?,
        })
    }

    /// Writes to a path as root.
    ///
    /// # Errors
    /// When it is not done.
    pub fn write(&self, path: &str, body: &Value) -> Result<Value, Problem> {
        self.ask("POST", path, Some(body))
    }

    /// Reads a path as root.
    ///
    /// # Errors
    /// When there is nothing, or it cannot be read.
    pub fn read(&self, path: &str) -> Result<Value, Problem> {
        self.ask("GET", path, None)
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Problem> {
        let body = body.map(ToString::to_string);
        let answer = self.vault.request(method, path, body.as_deref())?;
        if !answer.is_success() {
            return Err(io::Error::other(format!("{method} {path}: {answer:?}")).into());
        }
        Ok(if answer.body.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&answer.body)?
        })
    }

    /// Mounts the database engine and connects it to a database on this port, as [`ENGINE_USER`].
    ///
    /// # Errors
    /// When it is not done; the engine logs in at once.
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

    /// Makes a dynamic role whose leases live so many seconds at first, and at most.
    ///
    /// # Errors
    /// When it is not made.
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
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}'",
            r#"DROP ROLE IF EXISTS "{{name}}""#,
        ]);
        let mut role = json!({ "db_name": "orders", "creation_statements": creation, "default_ttl": ttl, "max_ttl": max_ttl });
        if revocation == Revocation::Terminating && kind == Kind::PostgreSql {
            role["revocation_statements"] = terminating;
        }
        self.write(&format!("{MOUNT}/roles/{name}"), &role)
            .map(drop)
    }

    /// The leases that are alive on a dynamic role, by their ids.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub fn leases(&self, role: &str) -> Result<Vec<String>, Problem> {
        let path = format!("sys/leases/lookup/{MOUNT}/creds/{role}?list=true");
        let answer = self.vault.request("GET", &path, None)?;
        if answer.status == 404 {
            return Ok(Vec::new());
        }
        if !answer.is_success() {
            return Err(io::Error::other(format!("{path}: {answer:?}")).into());
        }
        let body: Value = serde_json::from_str(&answer.body)?;
        let keys = body["data"]["keys"].as_array().cloned().unwrap_or_default();
        Ok(keys
            .iter()
            .filter_map(Value::as_str)
            .map(|key| format!("{MOUNT}/creds/{role}/{key}"))
            .collect())
    }

    /// Ends a lease by hand.
    ///
    /// # Errors
    /// When it is not done.
    pub fn revoke_lease(&self, lease: &str) -> Result<(), Problem> {
        self.write(
            "sys/leases/revoke",
            &json!({ "lease_id": lease, "sync": true }),
        )
        .map(drop)
    }

    /// The policy `orders`: what the providers need, and no more.
    ///
    /// # Errors
    /// When it is not written.
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

/// A text in an answer.
///
/// # Errors
/// When it is none.
pub fn text(value: &Value) -> Result<String, Problem> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| "what came has no such text".into())
}
