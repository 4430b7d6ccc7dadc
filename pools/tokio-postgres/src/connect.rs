//! Logins with the credentials of a lease.

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use claviger::error::ConnectError;
use claviger::pool::{Check, Verifier, check_credentials, explain_login};
use claviger::{Credentials, Lease};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Error, NoTls};

use crate::classify::{login_error, text_of};
use crate::servers::Servers;
use crate::tls::Tls;

/// Statement that fails once the role of a connection is dropped, also after `SET ROLE`.
pub const PROBE_SQL: &str = "SELECT current_user, session_user";

/// Maximum wait for the end of a connection that was verified.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// tokio-postgres's default for a configuration that sets none: two hours.
const DEFAULT_KEEPALIVES_IDLE: Duration = Duration::from_secs(2 * 60 * 60);
const KEEPALIVES_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVES_RETRIES: u32 = 3;

/// Future of a hook on a connection.
pub type HookFuture<'c> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'c>>;
type Hook = dyn for<'c> Fn(&'c Client) -> HookFuture<'c> + Send + Sync;

/// Logs in to PostgreSQL with the credentials of a lease, for a pool of any kind.
///
/// The [`Config`] has everything but user and password, which come from the lease and replace those
/// of the configuration. The lease's endpoint takes precedence over host, port and database.
///
/// ```
/// use claviger_tokio_postgres::PgConnect;
/// use tokio_postgres::Config;
/// use tokio_postgres::config::SslMode;
///
/// let mut config = Config::new();
/// config.host("db.internal").dbname("orders").ssl_mode(SslMode::Require);
/// let connect = PgConnect::new(config).with_after_connect(|client| Box::pin(async move {
///     client.batch_execute("SET statement_timeout = '5s'").await
/// }));
/// # drop(connect);
/// ```
///
/// - With TLS, the server's certificate is always verified, also with [`SslMode::Prefer`], the
///   default. By default the platform's roots verify it.
/// - TCP keep-alives are on: after 60 s without traffic, then each 10 s, three times. They are as
///   configured if `keepalives(false)` or an interval is set.
/// - `connect_timeout` limits each TCP connect. Default: 2 s for each address if there are several,
///   else none, so that the pool's own limits hold. A verification ends after 5 s by default:
///   with three addresses or more, set a shorter limit.
#[derive(Clone)]
pub struct PgConnect {
    servers: Servers,
    tls: Tls,
    hook: Option<Arc<Hook>>,
    ping: Arc<str>,
    probe: Arc<str>,
    tokens_in_clear: bool,
    verifier: Verifier,
}

impl PgConnect {
    /// Creates a connector with this configuration.
    pub fn new(mut config: Config) -> Self {
        if config.get_keepalives_idle() == DEFAULT_KEEPALIVES_IDLE {
            config.keepalives_idle(KEEPALIVES_IDLE);
        }
        if config.get_keepalives_interval().is_none() {
            config.keepalives_interval(KEEPALIVES_INTERVAL);
        }
        if config.get_keepalives_retries().is_none() {
            config.keepalives_retries(KEEPALIVES_RETRIES);
        }
        Self {
            servers: Servers::new(config),
            tls: Tls::default(),
            hook: None,
            ping: Arc::from(""),
            probe: Arc::from(PROBE_SQL),
            tokens_in_clear: false,
            verifier: Verifier::default(),
        }
    }

    /// Verifies the server's certificate by the CA certificates in this PEM file, instead of the
    /// platform's. The file is read now.
    ///
    /// # Errors
    /// [`ConnectErrorKind::Misconfigured`](claviger::error::ConnectErrorKind::Misconfigured) if it
    /// cannot be read or has no certificate.
    pub fn with_root_certificates(mut self, pem: impl AsRef<Path>) -> Result<Self, ConnectError> {
        self.tls = Tls::with_root_certificates(pem.as_ref())?;
        Ok(self)
    }

    /// Sets rustls's configuration: client certificates, other roots, pinned versions. It must
    /// verify the server's certificate.
    #[must_use]
    pub fn with_tls(mut self, config: rustls::ClientConfig) -> Self {
        self.tls = Tls::given(config);
        self
    }

    /// Allows bearer tokens on connections without verified TLS: for a server on this machine,
    /// never elsewhere. Default: such a token is rejected before the first connection.
    #[must_use]
    pub fn with_danger_tokens_without_verified_tls(mut self) -> Self {
        self.tokens_in_clear = true;
        self
    }

    /// Calls `hook` on each new connection, and on that of each verification. Credentials with
    /// which it fails are not used. Default: none.
    ///
    /// In a verification, the hook runs on a thread and a runtime of its own, which end with it.
    #[must_use]
    pub fn with_after_connect<F>(mut self, hook: F) -> Self
    where
        F: for<'c> Fn(&'c Client) -> HookFuture<'c> + Send + Sync + 'static,
    {
        self.hook = Some(Arc::new(hook));
        self
    }

    /// Sets the statement of a check before a connection is returned to a caller, such as
    /// `DISCARD ALL`. Default: an empty one, which costs a round trip.
    #[must_use]
    pub fn with_check_sql(mut self, sql: impl Into<Arc<str>>) -> Self {
        self.ping = sql.into();
        self
    }

    /// Sets the statement that must succeed on a connection for it to count as usable. Default:
    /// `SELECT current_user, session_user`.
    #[must_use]
    pub fn with_probe_sql(mut self, sql: impl Into<Arc<str>>) -> Self {
        self.probe = sql.into();
        self
    }

    /// Rejects a lease that is invalid, before anything connects.
    ///
    /// # Errors
    /// [`ConnectErrorKind::Misconfigured`](claviger::error::ConnectErrorKind::Misconfigured),
    /// naming the field and a valid value.
    pub fn check_lease(&self, lease: &Lease<Credentials>) -> Result<(), ConnectError> {
        let credentials = lease.secret();
        check_credentials(credentials, "PostgreSQL")?;
        self.servers.check(credentials)?;
        let ssl_mode = self.servers.config().get_ssl_mode();
        self.tls.check(ssl_mode)?;
        if credentials.is_token() && ssl_mode != SslMode::Require && !self.tokens_in_clear {
            return Err(ConnectError::misconfigured(
                "ssl_mode",
                "a token would be sent in clear text to any server at this address; set \
                 SslMode::Require in the configuration",
            ));
        }
        Ok(())
    }

    /// Logs in and calls the hook. The task owns the connection until the client is dropped.
    ///
    /// # Errors
    /// The driver's error. [`classify`](crate::classify) returns its kind.
    ///
    /// # Cancel safety
    /// May be dropped; the connection is then closed.
    pub async fn connect(
        &self,
        credentials: &Credentials,
    ) -> Result<(Client, JoinHandle<()>), Error> {
        self.connect_with(credentials, ()).await
    }

    /// Logs in as [`connect`](Self::connect) does, and drops `guard` when the connection has closed
    /// or the login has failed.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// As [`connect`](Self::connect).
    pub async fn connect_with(
        &self,
        credentials: &Credentials,
        guard: impl Send + 'static,
    ) -> Result<(Client, JoinHandle<()>), Error> {
        let (client, task) = self.log_in(credentials, guard).await?;
        if let Some(hook) = &self.hook {
            hook(&client).await?;
        }
        Ok((client, task))
    }

    /// Logs in on a thread of its own, probes the connection, calls the hook, runs the check and
    /// logs out.
    ///
    /// # Errors
    /// The database's error, or the hook's, with its SQLSTATE and the target of the login.
    /// [`Misconfigured`](claviger::error::ConnectErrorKind::Misconfigured) if a statement of the
    /// settings is invalid; the message begins with the setting: `check_sql`, `probe_sql` or
    /// `after_connect`.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn verify(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        let (connect, own) = (self.clone(), credentials.clone());
        let verified = self.verifier.run(async move {
            let verified = connect.log_in_and_verify(&own).await;
            verified.map_err(|error| connect.explain(&own, error))
        });
        verified.await
    }

    /// Verifies that an open connection works.
    ///
    /// # Errors
    /// The error of the connection. [`classify`](crate::classify) and
    /// [`classify_probe`](crate::classify_probe) return its kind.
    ///
    /// # Cancel safety
    /// May be dropped; the driver reads the response.
    pub async fn check_connection(&self, client: &Client, check: Check) -> Result<(), Error> {
        client.batch_execute(self.check_sql(check)).await
    }

    /// Returns the statement of a check.
    pub fn check_sql(&self, check: Check) -> &str {
        match check {
            Check::Probe => &self.probe,
            _ => &self.ping,
        }
    }

    /// Adds the target of the login to an error, and advice if a token was rejected.
    pub fn explain(&self, credentials: &Credentials, error: ConnectError) -> ConnectError {
        explain_login(credentials, || self.servers.target(credentials), error)
    }

    /// Returns the user and the server of these credentials.
    pub fn account(&self, credentials: &Credentials) -> String {
        format!("{}@{}", credentials.user(), self.server(credentials))
    }

    /// Returns host and port of these credentials' server; several are separated by commas.
    pub fn server(&self, credentials: &Credentials) -> String {
        self.servers.names(credentials)
    }

    async fn log_in_and_verify(&self, credentials: &Credentials) -> Result<(), ConnectError> {
        let logged_in = self.log_in(credentials, ()).await;
        let (client, task) =
            logged_in.map_err(|error| login_error(error).into_postgres_verification())?;
        let verified = self.verify_connection(&client).await;
        // Closes the connection. An error of the close does not concern the credentials.
        drop(client);
        let _ = timeout(CLOSE_TIMEOUT, task).await;
        verified
    }

    /// Verifies what the pool runs on a connection: the probe, the hook and the check.
    async fn verify_connection(&self, client: &Client) -> Result<(), ConnectError> {
        let probed = self.check_connection(client, Check::Probe).await;
        probed.map_err(|error| setting_error("probe_sql", error))?;
        if let Some(hook) = &self.hook {
            let called = hook(client).await;
            called.map_err(|error| setting_error("after_connect", error))?;
        }
        let checked = self.check_connection(client, Check::Ping).await;
        checked.map_err(|error| setting_error("check_sql", error))
    }

    async fn log_in(
        &self,
        credentials: &Credentials,
        guard: impl Send + 'static,
    ) -> Result<(Client, JoinHandle<()>), Error> {
        match self.tls.connector() {
            Some(tls) => {
                let (client, connection) = self.servers.log_in(credentials, tls).await?;
                Ok((client, tokio::spawn(drive(connection, guard))))
            }
            // Without TLS, a configuration that requires it returns an error.
            None => {
                let (client, connection) = self.servers.log_in(credentials, NoTls).await?;
                Ok((client, tokio::spawn(drive(connection, guard))))
            }
        }
    }
}

/// SQLSTATEs of a statement that does not work until something is changed: a syntax error, a
/// missing right, an undefined table, column or function.
const INVALID_STATEMENT: [&str; 5] = ["42501", "42601", "42P01", "42703", "42883"];

/// Returns the error of a setting's statement on a new connection. It names the setting if the
/// statement is invalid.
fn setting_error(setting: &str, error: Error) -> ConnectError {
    let error = login_error(error).into_postgres_verification();
    let code = error.code().filter(|code| INVALID_STATEMENT.contains(code));
    let Some(code) = code.map(str::to_owned) else {
        return error;
    };
    let problem = format!(
        "{}; correct the statement, or create or grant what it uses",
        error.message()
    );
    ConnectError::misconfigured(setting, problem)
        .with_code(code)
        .with_source(error)
}

/// Runs a connection until its client is dropped. The client's next call returns an error, too.
async fn drive(connection: impl Future<Output = Result<(), Error>>, guard: impl Send) {
    if let Err(error) = connection.await {
        tracing::debug!("connection closed: {}", text_of(&error));
    }
    drop(guard);
}

impl fmt::Debug for PgConnect {
    /// Leaves out the configuration, which may contain a password in a host's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgConnect")
            .field("servers", &self.servers)
            .field("ssl_mode", &self.servers.config().get_ssl_mode())
            .finish_non_exhaustive()
    }
}
