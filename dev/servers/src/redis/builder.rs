//! Settings of a server, and its start.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use super::{ADMIN, Redis, SOCKET, USERS, launch};
use crate::account::{Account, write_for};
use crate::error::{StartError, io};
use crate::guardian::{Guardian, SharedGuardian, Signal};
use crate::launch::on_a_free_port;
use crate::nonce::nonce;
use crate::ports::{HOST, free_port};
use crate::programs::Programs;
use crate::server::Server;
use crate::tls::{Authorities, CERTIFICATE_FILE, KEY_FILE, authorities};

/// A Redis to start.
///
/// By default it listens on 127.0.0.1 without TLS, keeps nothing on disk but its users, and has no
/// user that a client can log in as: see [`Redis::set_user`].
#[derive(Clone, Debug, Default)]
#[must_use = "nothing runs before `start`"]
pub struct RedisBuilder {
    programs: Option<Programs>,
    settings: Vec<(String, String)>,
    pub(super) tls: bool,
    /// Whether the server is a node of a cluster.
    pub(super) cluster: bool,
    /// Whether this node alone serves all slots.
    pub(super) has_all_slots: bool,
}

impl RedisBuilder {
    /// Accepts TLS connections only, with a certificate for `localhost` and `127.0.0.1` by an
    /// authority of this server, see [`Redis::ca_file`]. Clients need no certificate.
    #[cfg(feature = "tls")]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Starts a cluster of this one node, which serves all slots.
    pub fn cluster(mut self) -> Self {
        (self.cluster, self.has_all_slots) = (true, true);
        self
    }

    /// Adds a line of `redis.conf`, unchanged. It follows the defaults, which it overrides; the
    /// port cannot be set.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Sets where to look for the server's program. Default: [`Programs::from_environment`].
    pub fn programs(mut self, programs: Programs) -> Self {
        self.programs = Some(programs);
        self
    }

    /// Starts a server and waits until it accepts connections, some 50 ms.
    ///
    /// # Errors
    /// [`StartError::NotInstalled`] without Redis on this machine. A server that ends, or is not
    /// ready within 30 s, is an error with the end of its log. Nothing is left behind.
    pub fn start(self) -> Result<Redis, StartError> {
        let places = self.programs.clone();
        let places = places.unwrap_or_else(Programs::from_environment);
        let program = places.find(Server::Redis)?.join("redis-server");
        let account = Account::to_drop_to().map_err(io("choose a user for the server"))?;
        let mut guardian = Guardian::start(account, Signal::Kill)?;
        let folder = guardian.folder().to_owned();
        let authorities = authorities(self.tls, &folder, account)?;
        let admin_password = nonce();
        let users = format!("user default off\nuser {ADMIN} on >{admin_password} ~* &* +@all\n");
        write_for(account, &folder.join(USERS), &users).map_err(io("write the server's users"))?;
        let config = folder.join("redis.conf");
        write_for(account, &config, "").map_err(io("write the server's settings"))?;
        let port = on_a_free_port(|port| {
            let settings = self.config(&folder, authorities.as_ref(), port)?;
            fs::write(&config, settings).map_err(io("write the server's settings"))?;
            launch(&mut guardian, &program, &folder, port)
        })?;
        let server = Redis {
            guardian: SharedGuardian::new(guardian),
            program,
            socket: folder.join(SOCKET),
            folder,
            port,
            admin_password,
            own_logins: AtomicU64::new(0),
            authorities,
        };
        if self.has_all_slots {
            let assign = server.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
            assign.map_err(|error| io("create the cluster")(std::io::Error::other(error)))?;
            server.wait_for_cluster(1)?;
        }
        Ok(server)
    }

    fn config(
        &self,
        folder: &Path,
        authorities: Option<&Authorities>,
        port: u16,
    ) -> Result<String, StartError> {
        let path = |name: &str| folder.join(name).display().to_string();
        let mut settings: Vec<(String, String)> = [
            ("bind", HOST),
            ("dir", &folder.display().to_string()),
            ("unixsocket", &path(SOCKET)),
            ("aclfile", &path(USERS)),
            ("save", "\"\""),
            ("appendonly", "no"),
            ("maxclients", "500"),
            // Otherwise the log has the startup picture when stdout is a terminal.
            ("always-show-logo", "no"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let mut add = |name: &str, value: String| settings.push((name.to_owned(), value));
        if let Some(authorities) = authorities {
            add("tls-cert-file", path(CERTIFICATE_FILE));
            add("tls-key-file", path(KEY_FILE));
            add("tls-ca-cert-file", authorities.own.display().to_string());
            add("tls-auth-clients", "no".to_owned());
        }
        if self.cluster {
            add("cluster-enabled", "yes".to_owned());
            // Clients are then redirected to the port with TLS.
            let tls = if self.tls { "yes" } else { "no" };
            add("tls-cluster", tls.to_owned());
            // Its default is the port plus 10,000, which may be too high.
            add("cluster-port", free_port()?.to_string());
        }
        settings.extend(self.settings.iter().cloned());
        let (plain, tls) = if self.tls { (0, port) } else { (port, 0) };
        settings.push(("port".to_owned(), plain.to_string()));
        settings.push(("tls-port".to_owned(), tls.to_string()));
        // A build without TLS does not support these settings.
        if !self.tls {
            settings.retain(|(name, _)| !name.starts_with("tls-"));
        }
        let line = |(name, value): &(String, String)| format!("{name} {value}\n");
        Ok(settings.iter().map(line).collect())
    }
}
