//! Servers of a configuration or of a lease, and logins to the first one that responds.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use claviger::Credentials;
use claviger::error::ConnectError;
use claviger::pool::Address;
use tokio::net::lookup_host;
use tokio_postgres::config::{Host, LoadBalanceHosts};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Error, Socket};

const DEFAULT_PORT: u16 = 5432;

/// Limit on each TCP connect if another address can be tried and the configuration has none. The
/// limit on a verification, 5 s, leaves time for a second address.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_secs(2);

/// A connection that no task drives yet.
type Undriven<T> = Connection<Socket, <T as MakeTlsConnect<Socket>>::Stream>;

/// The user's configuration, whose servers a lease may replace.
#[derive(Clone)]
pub(crate) struct Servers {
    config: Config,
    /// The first host as text, for messages.
    first: String,
}

/// One server.
#[derive(Clone)]
struct Server {
    host: Host,
    /// Address to connect to. The host's name is then used for TLS only.
    address: Option<IpAddr>,
    port: u16,
}

impl Servers {
    pub(crate) fn new(config: Config) -> Self {
        let mut servers = Self {
            config,
            first: String::new(),
        };
        servers.first = servers
            .configured()
            .first()
            .map(|server| server.name())
            .unwrap_or_default();
        servers
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Checks the address of these credentials.
    pub(crate) fn check(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        if credentials.endpoint().is_some() {
            return self.first().check(credentials, DEFAULT_PORT);
        }
        let (hosts, addresses) = (self.config.get_hosts().len(), self.config.get_hostaddrs());
        let count = hosts.max(addresses.len());
        for (field, own) in [
            ("hostaddr", addresses.len()),
            ("host", hosts),
            ("port", self.config.get_ports().len()),
        ] {
            let may_be_one = field == "port";
            if own != count && own != 0 && !(may_be_one && own == 1) {
                let problem = format!("the configuration has {own} for {count} servers");
                return Err(ConnectError::misconfigured(
                    field,
                    format!("{problem}; give one for each"),
                ));
            }
        }
        let configured = self.configured();
        if configured.is_empty() {
            return self.first().check(credentials, DEFAULT_PORT);
        }
        for server in configured {
            let name = server.name();
            self.address(&name, server.port, server.is_socket())
                .check(credentials, DEFAULT_PORT)?;
        }
        Ok(())
    }

    /// Returns user, server and database of a login, for messages.
    pub(crate) fn target(&self, credentials: &Credentials) -> String {
        let target = self
            .first()
            .for_credentials(credentials)
            .target(credentials.user());
        match self.servers(credentials).len() {
            0 | 1 => target,
            count => format!("{target}; the first of {count} servers"),
        }
    }

    /// Returns host and port of each server.
    pub(crate) fn names(&self, credentials: &Credentials) -> String {
        let servers = self.servers(credentials);
        let names: Vec<_> = servers
            .iter()
            .map(|server| format!("{}:{}", server.name(), server.port))
            .collect();
        names.join(",")
    }

    /// Logs in to the first server that responds, as libpq does: a server's error ends the
    /// attempt, except for one that does not accept connections yet (57P03). tokio-postgres repeats
    /// a rejected login at each address of each host. An address that ignores connects is passed
    /// after a timeout.
    pub(crate) async fn log_in<T>(
        &self,
        credentials: &Credentials,
        tls: T,
    ) -> Result<(Client, Undriven<T>), Error>
    where
        T: MakeTlsConnect<Socket> + Clone,
    {
        let mut base = self.base(credentials);
        let random = self.config.get_load_balance_hosts() == LoadBalanceHosts::Random;
        let mut servers = self.servers(credentials);
        if random {
            fastrand::shuffle(&mut servers);
        }
        let (mut unreachable, count) = (None, servers.len());
        for server in servers {
            let mut addresses = server.addresses().await;
            if count.max(addresses.len()) > 1 && base.get_connect_timeout().is_none() {
                base.connect_timeout(NEXT_ADDRESS_AFTER);
            }
            if random {
                fastrand::shuffle(&mut addresses);
            }
            for address in addresses {
                match server.config(&base, address).connect(tls.clone()).await {
                    Err(error) if tries_next(&error) => unreachable = Some(error),
                    connected => return connected,
                }
            }
        }
        match unreachable {
            Some(error) => Err(error),
            // Reports that there is no host.
            None => base.connect(tls).await,
        }
    }

    /// Returns the configuration without a server, with user and password of these credentials.
    fn base(&self, credentials: &Credentials) -> Config {
        let (from, mut base) = (&self.config, Config::new());
        base.user(credentials.user())
            .password(credentials.expose_password())
            .ssl_mode(from.get_ssl_mode())
            .ssl_negotiation(from.get_ssl_negotiation())
            .keepalives(from.get_keepalives())
            .keepalives_idle(from.get_keepalives_idle())
            .target_session_attrs(from.get_target_session_attrs())
            .channel_binding(from.get_channel_binding());
        let address = self.first().for_credentials(credentials);
        if let Some(database) = address.database() {
            base.dbname(database);
        }
        if let Some(options) = from.get_options() {
            base.options(options);
        }
        if let Some(name) = from.get_application_name() {
            base.application_name(name);
        }
        if let Some(timeout) = from.get_connect_timeout() {
            base.connect_timeout(*timeout);
        }
        if let Some(timeout) = from.get_tcp_user_timeout() {
            base.tcp_user_timeout(*timeout);
        }
        if let Some(interval) = from.get_keepalives_interval() {
            base.keepalives_interval(interval);
        }
        if let Some(retries) = from.get_keepalives_retries() {
            base.keepalives_retries(retries);
        }
        base
    }

    fn servers(&self, credentials: &Credentials) -> Vec<Server> {
        if credentials.endpoint().is_none() {
            return self.configured();
        }
        let address = self.first().for_credentials(credentials);
        vec![Server {
            host: host(address.host()),
            address: None,
            port: address.port(),
        }]
    }

    fn configured(&self) -> Vec<Server> {
        let (hosts, addresses) = (self.config.get_hosts(), self.config.get_hostaddrs());
        let server = |index: usize| {
            let address = addresses.get(index).copied();
            let own = hosts.get(index).cloned();
            Some(Server {
                host: own.or_else(|| Some(Host::Tcp(address?.to_string())))?,
                address,
                port: self.port(index),
            })
        };
        (0..hosts.len().max(addresses.len()))
            .filter_map(server)
            .collect()
    }

    fn port(&self, index: usize) -> u16 {
        let ports = self.config.get_ports();
        let port = ports.get(index).or_else(|| ports.first());
        port.copied().unwrap_or(DEFAULT_PORT)
    }

    fn first(&self) -> Address<'_> {
        let socket = self.configured().iter().any(Server::is_socket);
        self.address(&self.first, self.port(0), socket)
    }

    fn address<'a>(&'a self, host: &'a str, port: u16, socket: bool) -> Address<'a> {
        Address::new(host, port)
            .with_database(self.config.get_dbname())
            .with_socket(socket)
    }
}

impl Server {
    fn name(&self) -> String {
        match &self.host {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        }
    }

    fn is_socket(&self) -> bool {
        !matches!(self.host, Host::Tcp(_))
    }

    /// Returns the addresses to connect to. With `None`, the driver resolves the name, or reports
    /// why it cannot.
    async fn addresses(&self) -> Vec<Option<IpAddr>> {
        let Host::Tcp(name) = &self.host else {
            return vec![None];
        };
        if self.address.is_some() || name.parse::<IpAddr>().is_ok() {
            return vec![self.address];
        }
        let mut addresses = Vec::new();
        if let Ok(resolved) = lookup_host((name.as_str(), self.port)).await {
            for address in resolved {
                let address = Some(address.ip());
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        if addresses.is_empty() {
            addresses.push(None);
        }
        addresses
    }

    fn config(&self, base: &Config, address: Option<IpAddr>) -> Config {
        let mut config = base.clone();
        match &self.host {
            Host::Tcp(name) => config.host(name),
            #[cfg(unix)]
            Host::Unix(path) => config.host_path(path),
        };
        if let Some(address) = address {
            config.hostaddr(address);
        }
        config.port(self.port);
        config
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first().fmt(f)
    }
}

fn host(text: &str) -> Host {
    #[cfg(unix)]
    if text.starts_with('/') {
        return Host::Unix(text.into());
    }
    Host::Tcp(text.to_owned())
}

/// Returns whether another address may accept the login.
fn tries_next(error: &Error) -> bool {
    error
        .code()
        .is_none_or(|code| *code == SqlState::CANNOT_CONNECT_NOW)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use tokio_postgres::config::{ChannelBinding, SslMode, SslNegotiation, TargetSessionAttrs};

    use super::*;

    /// Returns a configuration in which nothing is a default.
    fn full() -> Config {
        let second = Duration::from_secs(1);
        let mut config = Config::new();
        config
            .user("app")
            .password("s3cret")
            .dbname("orders")
            .options("-c geqo=off")
            .application_name("orders-service")
            .ssl_mode(SslMode::Require)
            .ssl_negotiation(SslNegotiation::Direct)
            .host("db.internal")
            .hostaddr([10, 0, 0, 1].into())
            .port(6_432)
            .connect_timeout(second)
            .tcp_user_timeout(2 * second)
            .keepalives(false)
            .keepalives_idle(3 * second)
            .keepalives_interval(4 * second)
            .keepalives_retries(5)
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .channel_binding(ChannelBinding::Require);
        config
    }

    #[tokio::test]
    async fn a_login_keeps_all_of_the_configuration() {
        let servers = Servers::new(full());
        let credentials = Credentials::new("app", "s3cret");
        let base = servers.base(&credentials);
        let [server] = &servers.servers(&credentials)[..] else {
            unreachable!("one server")
        };
        let addresses = server.addresses().await;
        assert_eq!(server.config(&base, addresses[0]), full());
    }

    #[test]
    fn each_server_has_its_own_address_and_port() {
        let mut config = Config::new();
        config
            .host("a")
            .host_path("/run")
            .host("c")
            .port(1)
            .port(2)
            .port(3);
        let names = Servers::new(config).names(&Credentials::new("app", "s3cret"));
        assert_eq!(names, "a:1,/run:2,c:3");
        let mut config = Config::new();
        config
            .hostaddr([10, 0, 0, 1].into())
            .hostaddr([10, 0, 0, 2].into());
        let servers = Servers::new(config.port(6_432).clone());
        let names = servers.names(&Credentials::new("app", "s3cret"));
        assert_eq!(names, "10.0.0.1:6432,10.0.0.2:6432");
        servers
            .check(&Credentials::new("app", "s3cret"))
            .unwrap_err();
    }
}
