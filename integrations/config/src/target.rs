//! A pool's settings, combined with its URL and the defaults of the file.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde::de::value::{Error as ValueError, StrDeserializer};
use url::Url;

use crate::error::Problem;
use crate::schema::{PoolDefaults, PoolKind, PoolSettings, SslMode};
use crate::values::{HumanDuration, Secret};

/// Maximum age of connections with IAM tokens, which are valid for 15 minutes.
const TOKEN_LIFETIME: Duration = Duration::from_secs(14 * 60);
const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_CONNECTIONS: u32 = 10;

/// A pool of the file, with all its settings.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: PoolKind,
    pub(crate) settings: PoolSettings,
    url: Option<Url>,
    defaults: PoolDefaults,
}

impl Target {
    /// Combines a pool's settings with its URL and the defaults.
    ///
    /// # Errors
    /// The URL is invalid, or its scheme does not match the kind of pool.
    pub(crate) fn new(
        name: &str,
        settings: &PoolSettings,
        defaults: &PoolDefaults,
    ) -> Result<Self, Problem> {
        let problem = |message: &str| Problem::new(format!("pools.{name}.url"), message);
        let url = settings.url.as_deref().map(Url::parse).transpose();
        // The parser's message contains no part of the URL.
        let url = url.map_err(|error| {
            problem(&format!(
                "is not a URL ({error}); give one such as postgres://orders@db.internal/orders"
            ))
        })?;
        let by_url = url.as_ref().map(|url| match url.scheme() {
            "postgres" | "postgresql" => Ok(PoolKind::Postgres),
            "mysql" | "mariadb" => Ok(PoolKind::Mysql),
            "redis" | "rediss" | "valkey" | "valkeys" => Ok(PoolKind::Redis),
            _ => Err(problem(
                "has an unknown scheme; give postgres://, mysql://, redis:// or rediss://",
            )),
        });
        let by_url = by_url.transpose()?;
        let kind = settings.kind.or(by_url).unwrap_or(PoolKind::Postgres);
        if by_url.is_some_and(|by_url| by_url.engine() != kind.engine()) {
            return Err(problem("has a scheme of another kind of pool"));
        }
        Ok(Self {
            name: name.to_owned(),
            kind,
            settings: settings.clone(),
            url,
            defaults: defaults.clone(),
        })
    }

    /// Returns the key of a setting, for messages.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("pools.{}.{key}", self.name)
    }

    /// Returns the name of the provider that `provider` names, or of the pool's own provider.
    pub(crate) fn provider_name(&self) -> String {
        let own = || format!("{}-credentials", self.name);
        self.settings.provider.clone().unwrap_or_else(own)
    }

    pub(crate) fn host(&self) -> Option<String> {
        let of_url = || self.url.as_ref()?.host_str().map(decoded);
        let host = self.settings.host.clone().or_else(of_url);
        host.filter(|host| !host.is_empty())
    }

    pub(crate) fn port(&self) -> u16 {
        let of_url = || self.url.as_ref()?.port();
        let default = match self.kind.engine() {
            Engine::Postgres => 5_432,
            Engine::Mysql => 3_306,
            Engine::Redis => 6_379,
        };
        self.settings.port.or_else(of_url).unwrap_or(default)
    }

    pub(crate) fn user(&self) -> Option<String> {
        let of_url = || self.url.as_ref().map(|url| decoded(url.username()));
        let user = self.settings.user.clone().or_else(of_url);
        user.filter(|user| !user.is_empty())
    }

    pub(crate) fn database(&self) -> Option<String> {
        let of_url = || Some(decoded(self.url.as_ref()?.path().trim_start_matches('/')));
        let database = self.settings.database.clone().or_else(of_url);
        database.filter(|database| !database.is_empty())
    }

    /// Returns the password of the settings, or that of the URL.
    pub(crate) fn password(&self) -> Option<Secret> {
        let of_url = || Some(Secret::Text(decoded(self.url.as_ref()?.password()?).into()));
        self.settings.password.clone().or_else(of_url)
    }

    /// Returns the parameters of the URL's query.
    pub(crate) fn url_parameters(&self) -> Vec<(String, String)> {
        let pairs = self.url.iter().flat_map(|url| url.query_pairs());
        pairs
            .map(|(key, value)| (key.into_owned(), value.into_owned()))
            .collect()
    }

    /// Returns whether the scheme of the URL requires TLS: `rediss` or `valkeys`.
    pub(crate) fn has_tls_scheme(&self) -> bool {
        self.url
            .as_ref()
            .is_some_and(|url| matches!(url.scheme(), "rediss" | "valkeys"))
    }

    pub(crate) fn ssl_mode(&self) -> Option<SslMode> {
        let of_url = || {
            let parameters = self.url_parameters();
            let (_, mode) = parameters
                .iter()
                .find(|(key, _)| key == "sslmode" || key == "ssl-mode")?;
            SslMode::deserialize(StrDeserializer::<ValueError>::new(mode)).ok()
        };
        let for_tokens = self.settings.aws_iam_auth.then_some(SslMode::VerifyFull);
        self.settings.ssl_mode.or_else(of_url).or(for_tokens)
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
        let default = if settings.aws_iam_auth {
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

fn or(given: Option<HumanDuration>, default: Duration) -> Duration {
    given.map_or(default, |HumanDuration(duration)| duration)
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Server that a pool connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Postgres,
    Mysql,
    Redis,
}

impl PoolKind {
    pub(crate) fn engine(self) -> Engine {
        match self {
            Self::Postgres | Self::DeadpoolPostgres | Self::DieselPostgres | Self::Bb8Postgres => {
                Engine::Postgres
            }
            Self::Mysql => Engine::Mysql,
            Self::Redis | Self::RedisManaged | Self::RedisCluster | Self::RedisExclusive => {
                Engine::Redis
            }
        }
    }

    /// Returns the kind's name in the file.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::DeadpoolPostgres => "deadpool-postgres",
            Self::DieselPostgres => "diesel-postgres",
            Self::Bb8Postgres => "bb8-postgres",
            Self::Redis => "redis",
            Self::RedisManaged => "redis-managed",
            Self::RedisCluster => "redis-cluster",
            Self::RedisExclusive => "redis-exclusive",
        }
    }

    /// Returns the feature of this crate that the kind needs, and whether it is enabled.
    pub(crate) fn feature(self) -> (&'static str, bool) {
        match self {
            Self::Postgres => ("postgres", cfg!(feature = "postgres")),
            Self::Mysql => ("mysql", cfg!(feature = "mysql")),
            Self::DeadpoolPostgres => ("deadpool-postgres", cfg!(feature = "deadpool-postgres")),
            Self::DieselPostgres => ("diesel-async", cfg!(feature = "diesel-async")),
            Self::Bb8Postgres => ("bb8", cfg!(feature = "bb8")),
            Self::Redis | Self::RedisManaged | Self::RedisCluster | Self::RedisExclusive => {
                ("redis", cfg!(feature = "redis"))
            }
        }
    }
}
