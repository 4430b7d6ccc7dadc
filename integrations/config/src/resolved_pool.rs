//! A pool's settings, combined with its URL and the defaults of the file.

use std::time::Duration;

use std::path::PathBuf;

use url::Url;

use crate::error::Problem;
use crate::libpq::{Libpq, SSL_MODE};
use crate::schema::{File, PoolDefaults, PoolKind, PoolSettings, ProviderSettings, SslMode};
use crate::url_settings::UrlSettings;
use crate::url_text::decoded;
use crate::values::{HumanDuration, Secret};

/// Maximum age of connections with IAM tokens, which are valid for 15 minutes.
pub(crate) const TOKEN_LIFETIME: Duration = Duration::from_secs(14 * 60);
const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_CONNECTIONS: u32 = 10;

/// A pool of the file, with all its settings.
#[derive(Clone)]
pub(crate) struct ResolvedPool {
    pub(crate) name: String,
    pub(crate) kind: PoolKind,
    pub(crate) settings: PoolSettings,
    tokens: Option<Tokens>,
    url: UrlSettings,
    /// Defaults of the environment, for PostgreSQL.
    libpq: Libpq,
    libpq_ssl_mode: Option<SslMode>,
    defaults: PoolDefaults,
}

impl ResolvedPool {
    /// Combines a pool's settings with its URL, the defaults of the file, and those of the
    /// environment.
    ///
    /// # Errors
    /// The URL is invalid, or its scheme does not match the kind of pool.
    pub(crate) fn new(
        name: &str,
        settings: &PoolSettings,
        file: &File,
        libpq: &Libpq,
    ) -> Result<Self, Problem> {
        let url = settings.url.as_deref();
        let url = url.map(|url| UrlSettings::parse(url, settings.kind));
        let url = url.transpose();
        let url = url.map_err(|message| Problem::new(format!("pools.{name}.url"), message))?;
        let url = url.unwrap_or_default();
        let kind = settings.kind.or(url.kind).unwrap_or(PoolKind::Postgres);
        let libpq = match kind.engine() {
            Engine::Postgres => libpq.clone(),
            _ => Libpq::default(),
        };
        Ok(Self {
            name: name.to_owned(),
            kind,
            settings: settings.clone(),
            tokens: tokens(settings, file),
            url,
            libpq_ssl_mode: libpq.ssl_mode()?,
            libpq,
            defaults: file.defaults.clone(),
        })
    }

    /// Returns the key of a setting, for messages.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("pools.{}.{key}", self.name)
    }

    /// Returns whether the credentials are tokens, as far as the file shows.
    pub(crate) fn has_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    /// Returns whether its credentials are tokens of IAM, which are valid for 15 minutes.
    pub(crate) fn has_tokens_of_iam(&self) -> bool {
        self.tokens == Some(Tokens::Iam)
    }

    /// Returns the name of the provider that `provider` names, or of the pool's own provider.
    pub(crate) fn provider_name(&self) -> String {
        let own = || format!("{}-credentials", self.name);
        self.settings.provider.clone().unwrap_or_else(own)
    }

    pub(crate) fn host(&self) -> Option<String> {
        let host = self.settings.host.clone();
        let host = host.or_else(|| self.url.host.clone())?;
        let address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = address.unwrap_or(&host);
        (!host.is_empty()).then(|| host.to_owned())
    }

    pub(crate) fn port(&self) -> u16 {
        let default = match self.kind.engine() {
            Engine::Postgres => 5_432,
            Engine::Mysql => 3_306,
            Engine::Redis => 6_379,
        };
        self.settings.port.or(self.url.port).unwrap_or(default)
    }

    /// Returns host and port of each node of `nodes`, or `None` in place of one that is invalid.
    pub(crate) fn nodes(&self) -> Vec<Option<(String, u16)>> {
        let nodes = self.settings.nodes.iter();
        nodes.map(|node| self.node(node)).collect()
    }

    fn node(&self, node: &str) -> Option<(String, u16)> {
        let url = Url::parse(&format!("redis://{node}")).ok()?;
        let host = decoded(url.host_str()?)?;
        let has_more = url.as_str().trim_end_matches('/').contains(['@', '?', '#'])
            || !matches!(url.path(), "" | "/");
        let port = url.port().unwrap_or_else(|| self.port());
        (!host.is_empty() && !has_more && port != 0).then_some((host, port))
    }

    pub(crate) fn user(&self) -> Option<String> {
        let user = self.settings.user.clone();
        user.or_else(|| self.url.user.clone())
    }

    pub(crate) fn database(&self) -> Option<String> {
        let database = self.settings.database.clone();
        let database = database.or_else(|| self.url.database.clone());
        database.or_else(|| self.libpq.database.clone())
    }

    /// Returns the password of the settings, or that of the URL.
    pub(crate) fn password(&self) -> Option<Secret> {
        let of_url = || Some(Secret::Text(self.url.password.clone()?.into()));
        self.settings.password.clone().or_else(of_url)
    }

    /// Returns the parameters of the URL that are passed to the driver.
    pub(crate) fn url_parameters(&self) -> &[(String, String)] {
        &self.url.parameters
    }

    /// Returns whether the scheme of the URL requires TLS: `rediss` or `valkeys`.
    pub(crate) fn has_tls_scheme(&self) -> bool {
        self.url.has_tls_scheme
    }

    /// Returns whether the pool connects to a Unix socket.
    pub(crate) fn is_socket(&self) -> bool {
        let is_path = self.host().is_some_and(|host| host.starts_with('/'));
        is_path && self.kind.engine() == Engine::Postgres
    }

    /// Returns the mode of the settings, the URL or the environment. Tokens and `ca_file` need
    /// verification. A Unix socket has no TLS, and as in libpq the environment does not request it.
    pub(crate) fn ssl_mode(&self) -> Option<SslMode> {
        let given = self.given_ssl_mode();
        if self.is_socket() {
            return given.or(Some(SslMode::Disable));
        }
        let needs_verification = self.has_tokens() || self.given_ca_file().is_some();
        given
            .or(needs_verification.then_some(SslMode::VerifyFull))
            .or(self.libpq_ssl_mode)
    }

    /// Returns the mode of the settings or the URL.
    pub(crate) fn given_ssl_mode(&self) -> Option<SslMode> {
        self.settings.ssl_mode.or(self.url.ssl_mode)
    }

    /// Returns what has set the mode, if there is one.
    pub(crate) fn ssl_mode_origin(&self) -> ModeOrigin {
        match (self.settings.ssl_mode, self.url.ssl_mode) {
            (None, Some(_)) => ModeOrigin::Url,
            (None, None) if self.ssl_mode() == self.libpq_ssl_mode => {
                ModeOrigin::Environment(SSL_MODE)
            }
            _ => ModeOrigin::Key,
        }
    }

    /// Returns the authorities of the server: of the settings, the URL, or the environment if the
    /// server is verified.
    pub(crate) fn ca_file(&self) -> Option<PathBuf> {
        let is_verified = matches!(
            self.ssl_mode(),
            Some(SslMode::VerifyCa | SslMode::VerifyFull)
        );
        let of_environment = self.libpq.ca_file.as_ref().filter(|_| is_verified);
        self.given_ca_file().or(of_environment.map(PathBuf::from))
    }

    /// Returns the authorities of the settings or the URL.
    pub(crate) fn given_ca_file(&self) -> Option<PathBuf> {
        let of_url = self.url.ca_file.as_ref().map(PathBuf::from);
        self.settings.ca_file.clone().or(of_url)
    }

    pub(crate) fn client_certificate_file(&self) -> Option<PathBuf> {
        let of_environment = self.libpq_certificate().map(|(file, _)| file.into());
        self.given_client_certificate_file().or(of_environment)
    }

    /// Returns the client's certificate of the settings or the URL.
    pub(crate) fn given_client_certificate_file(&self) -> Option<PathBuf> {
        let of_url = self.url.client_certificate_file.as_ref();
        let given = self.settings.client_certificate_file.clone();
        given.or_else(|| of_url.map(PathBuf::from))
    }

    pub(crate) fn client_key_file(&self) -> Option<PathBuf> {
        let given = self.settings.client_key_file.clone();
        let of_url = self.url.client_key_file.as_ref();
        let of_environment = self.libpq_certificate().map(|(_, key)| key);
        given.or_else(|| of_url.or(of_environment).map(PathBuf::from))
    }

    /// Returns the client's certificate and key of the environment, if the driver sends them.
    fn libpq_certificate(&self) -> Option<&(String, String)> {
        let is_sent = self.kind.sends_certificates() && !self.is_socket();
        self.libpq.client_certificate.as_ref().filter(|_| is_sent)
    }

    pub(crate) fn max_connections(&self) -> u32 {
        let given = self
            .settings
            .max_connections
            .or(self.defaults.max_connections);
        given.unwrap_or(MAX_CONNECTIONS)
    }

    pub(crate) fn min_connections(&self) -> u32 {
        let given = self
            .settings
            .min_connections
            .or(self.defaults.min_connections);
        given.unwrap_or_default()
    }

    pub(crate) fn max_lifetime(&self) -> Duration {
        let settings = &self.settings;
        let given = settings
            .connection_max_lifetime
            .or(self.defaults.connection_max_lifetime);
        let default = if self.has_tokens() {
            TOKEN_LIFETIME
        } else {
            MAX_LIFETIME
        };
        or(given, default)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        or(
            self.settings.idle_timeout.or(self.defaults.idle_timeout),
            IDLE_TIMEOUT,
        )
    }

    pub(crate) fn acquire_timeout(&self) -> Duration {
        or(
            self.settings
                .acquire_timeout
                .or(self.defaults.acquire_timeout),
            ACQUIRE_TIMEOUT,
        )
    }
}

/// What has set the mode of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModeOrigin {
    /// A key of the pool: `ssl_mode`, or one that requires verification, such as `ca_file`.
    Key,
    Url,
    /// This variable.
    Environment(&'static str),
}

/// Tokens that a pool logs in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tokens {
    Iam,
    /// Those of a file have a lifetime that the configuration does not know.
    OfFile,
}

/// Returns the kind of tokens that the settings or their provider have.
fn tokens(settings: &PoolSettings, file: &File) -> Option<Tokens> {
    let provider = settings.provider.as_ref();
    match provider.and_then(|name| file.providers.get(name)) {
        _ if settings.aws_iam_auth => Some(Tokens::Iam),
        Some(ProviderSettings::RdsIam(_) | ProviderSettings::ElasticacheIam(_)) => {
            Some(Tokens::Iam)
        }
        Some(ProviderSettings::File(file)) if file.token => Some(Tokens::OfFile),
        _ => None,
    }
}

fn or(given: Option<HumanDuration>, default: Duration) -> Duration {
    given.map_or(default, |HumanDuration(duration)| duration)
}

/// Server that a pool connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    Mysql,
    Redis,
}

#[cfg(all(test, feature = "rds-iam"))]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::config::Config;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Each pool has a name, and some log in with IAM tokens. All have at most ten connections,
    /// which are closed at an age of 14 minutes, or when they were idle for 10 minutes.
    #[test]
    fn thirty_pools_get_the_settings_of_their_file() {
        let mut text = String::new();
        for nth in 0..30 {
            let credentials = if nth % 3 == 0 {
                "aws_iam_auth = true\n"
            } else {
                "password = \"file:/etc/databases/password\"\n"
            };
            text += &format!(
                "[pools.database-{nth:02}]\nhost = \"db{nth}.c1.eu-west-1.rds.amazonaws.com\"\n\
                 database = \"db{nth}\"\nuser = \"app{nth}\"\nmax_connections = 10\n\
                 connection_max_lifetime = \"14m\"\nidle_timeout = \"10m\"\n{credentials}"
            );
        }
        let folder = tempfile::TempDir::new().expect("a folder");
        let file = folder.path().join("claviger.toml");
        std::fs::write(&file, text).expect("written");
        let config = Config::load(file).expect("it is valid");
        let pools = config.resolved_pools().expect("it is valid");
        assert_eq!(pools.len(), 30);
        for (nth, pool) in pools.iter().enumerate() {
            assert_eq!(pool.name, format!("database-{nth:02}"));
            assert_eq!(pool.kind, PoolKind::Postgres);
            assert_eq!(pool.database(), Some(format!("db{nth}")));
            assert_eq!(pool.user(), Some(format!("app{nth}")));
            let has_token = nth % 3 == 0;
            assert_eq!(pool.settings.aws_iam_auth, has_token);
            assert_eq!(pool.max_lifetime(), 14 * MINUTE);
            assert_eq!(pool.idle_timeout(), 10 * MINUTE);
            let verified = has_token.then_some(SslMode::VerifyFull);
            assert_eq!(pool.ssl_mode(), verified);
            #[cfg(feature = "postgres")]
            {
                use claviger::pool::PoolFactory as _;

                let options = crate::kinds::sqlx::pool_options::<sqlx::Postgres>(pool);
                assert_eq!(options.get_max_connections(), 10);
                assert_eq!(options.get_max_lifetime(), Some(14 * MINUTE));
                assert_eq!(options.get_idle_timeout(), Some(10 * MINUTE));
                let pools = crate::kinds::sqlx::postgres(pool);
                let pools = pools.expect("they are valid");
                assert_eq!(pools.settings().max_connections, 10);
            }
        }
    }
}
