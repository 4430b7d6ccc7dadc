//! Settings of a pooler, and its start.

use std::fs;
use std::io as std_io;
use std::sync::Mutex;

use super::{
    ADMIN, ADMIN_PASSWORD, PgBouncer, PoolMode, READER, USERS, Users, launch, write_users,
};
use crate::account::{Account, change_owner};
use crate::error::{StartError, io};
use crate::guardian::{Guardian, SharedGuardian, Signal};
use crate::launch::on_a_free_port;
use crate::nonce::nonce;
use crate::ports::HOST;
use crate::postgres::{Postgres, quote_identifier, quote_literal};
use crate::programs::Programs;
use crate::server::Server;

/// A pooler to start.
#[derive(Debug)]
#[must_use = "nothing runs before `start`"]
pub struct PgBouncerBuilder {
    users: Users,
    mode: PoolMode,
    settings: Vec<(String, String)>,
}

impl PgBouncerBuilder {
    pub(super) fn new(users: Users) -> Self {
        Self {
            users,
            mode: PoolMode::default(),
            settings: Vec::new(),
        }
    }

    /// Sets when connections to the server return to the pooler. Default:
    /// [`PoolMode::Session`].
    pub fn mode(mut self, mode: PoolMode) -> Self {
        self.mode = mode;
        self
    }

    /// Adds a line of the section `[pgbouncer]`, unchanged. It replaces the default and an earlier
    /// call's.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Starts a pooler in front of this server, in a tenth of a second.
    ///
    /// # Errors
    /// [`StartError::NotInstalled`] without PgBouncer on this machine. A pooler that ends, or is
    /// not ready within 30 s, is an error with the end of its log. Nothing is left behind.
    pub fn start(self, server: &Postgres) -> Result<PgBouncer, StartError> {
        let program = Programs::from_environment()
            .find(Server::PgBouncer)?
            .join("pgbouncer");
        let account = Account::to_drop_to().map_err(io("choose a user for the server"))?;
        let mut guardian = Guardian::start(account, Signal::Kill)?;
        let folder = guardian.folder().to_owned();
        let mut users = match &self.users {
            Users::File(users) => users.clone(),
            Users::Query => vec![(READER.to_owned(), create_reader(server)?)],
        };
        users.push((ADMIN.to_owned(), ADMIN_PASSWORD.to_owned()));
        write_users(&folder, account, &users).map_err(io("write the pooler's users"))?;
        let port = on_a_free_port(|port| {
            let config = folder.join("pgbouncer.ini");
            fs::write(
                &config,
                self.config(server, &folder.join(USERS).to_string_lossy(), port),
            )
            .map_err(io("write the pooler's settings"))?;
            change_owner(account, &config).map_err(io("write the pooler's settings"))?;
            launch(&mut guardian, &program, &folder, port)
        })?;
        let psql = server.programs().join("psql");
        let psql = if psql.exists() { psql } else { "psql".into() };
        Ok(PgBouncer {
            guardian: SharedGuardian::new(guardian),
            program,
            folder,
            port,
            account,
            psql,
            users: Mutex::new(users),
        })
    }

    fn config(&self, server: &Postgres, users: &str, port: u16) -> String {
        let mode = match self.mode {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
        };
        let mut settings: Vec<(String, String)> = [
            ("listen_addr", HOST),
            ("listen_port", &port.to_string()),
            ("unix_socket_dir", ""),
            ("auth_type", "scram-sha-256"),
            ("auth_file", users),
            ("admin_users", ADMIN),
            ("pool_mode", mode),
            ("max_client_conn", "500"),
            ("default_pool_size", "20"),
            ("server_login_retry", "1"),
            // sqlx sends it in its startup packet.
            ("ignore_startup_parameters", "extra_float_digits"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        if self.users == Users::Query {
            settings.push(("auth_user".to_owned(), READER.to_owned()));
        }
        for (name, value) in &self.settings {
            settings.retain(|(known, _)| known != name);
            settings.push((name.clone(), value.clone()));
        }
        let lines: Vec<String> = settings
            .iter()
            .map(|(name, value)| format!("{name} = {value}"))
            .collect();
        format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\n{}\n",
            server.host(),
            server.port(),
            lines.join("\n")
        )
    }
}

/// Creates the user of `auth_query`, or gives it a new password; returns the password.
fn create_reader(server: &Postgres) -> Result<String, StartError> {
    let password = nonce();
    let (user, secret) = (quote_identifier(READER), quote_literal(&password));
    let count = server.sql(&format!(
        "SELECT count(*) FROM pg_roles WHERE rolname = {}",
        quote_literal(READER)
    ));
    let created = count.and_then(|count| {
        let verb = if count == "0" { "CREATE" } else { "ALTER" };
        server.sql(&format!(
            "{verb} ROLE {user} LOGIN SUPERUSER PASSWORD {secret}"
        ))
    });
    created
        .map(|_| password)
        .map_err(|error| io("create the pooler's own user")(std_io::Error::other(error)))
}
