//! The pools of a configuration as tools see them: settings, backend and provider.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(any(
    feature = "elasticache-iam",
    feature = "rds-iam",
    feature = "secrets-manager"
))]
use aws_config::SdkConfig;

use crate::any_provider::AnyProvider;
use crate::error::ConfigError;
use crate::providers::{ADDED_BY_SERVICE, Providers};
use crate::resolved_pool::{Engine as ResolvedEngine, ResolvedPool};
use crate::schema::{File, Handover, PoolKind, ProviderSettings, SslMode, VaultAuth};
use crate::values::Secret;

/// A pool of a configuration that has not been started: its settings, and the provider of its
/// credentials. Contains no credentials.
pub struct Connection {
    pub(crate) pool: ResolvedPool,
    backend: Backend,
    provider: Result<AnyProvider, ConfigError>,
    ca_file: Option<PathBuf>,
    client_certificate: Option<(PathBuf, PathBuf)>,
    #[cfg(any(
        feature = "elasticache-iam",
        feature = "rds-iam",
        feature = "secrets-manager"
    ))]
    aws: Option<SdkConfig>,
    #[cfg(feature = "vault")]
    vault_session: Option<claviger_vault::VaultSession>,
}

/// Server that a pool connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB.
    Mysql,
    /// Redis or Valkey.
    Redis,
}

/// TLS of a connection, and verification of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS if the server supports it.
    Prefer,
    /// TLS, without verification of the server.
    Require,
    /// TLS, with a certificate of a known authority.
    VerifyCa,
    /// TLS, with a certificate of a known authority for this host.
    VerifyFull,
}

/// Backend of a pool's credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// A provider that the service adds by [`with_provider`](crate::Config::with_provider).
    Service,
    /// Credentials that never change.
    Static,
    /// A mounted file or directory.
    File {
        /// Path of the file or directory.
        path: PathBuf,
    },
    /// IAM tokens for RDS.
    RdsIam {
        /// Endpoint that tokens are signed for.
        host: String,
        /// Region of the settings; otherwise it is that of the endpoint's name or of AWS's
        /// configuration.
        region: Option<String>,
    },
    /// IAM tokens for ElastiCache and MemoryDB.
    ElasticacheIam {
        /// Name of the cache.
        cache: String,
    },
    /// A secret of AWS Secrets Manager.
    SecretsManager {
        /// Name or ARN of the secret.
        secret: String,
    },
    /// A role or secret of Vault or OpenBao.
    Vault {
        /// Address of the server.
        address: String,
        /// PEM file with the authorities that may sign the server's certificate.
        ca_file: Option<PathBuf>,
        /// Method by which the service authenticates, such as `kubernetes`.
        auth: &'static str,
        /// Mount and role, or mount and path.
        path: String,
    },
}

impl Connection {
    /// Returns the name of the pool.
    pub fn name(&self) -> &str {
        &self.pool.name
    }

    /// Returns the kind of the pool as in the file, such as `deadpool-postgres`.
    pub fn kind(&self) -> &'static str {
        self.pool.kind.as_str()
    }

    /// Returns the server that the pool connects to.
    pub fn engine(&self) -> Engine {
        match self.pool.kind.engine() {
            ResolvedEngine::Postgres => Engine::Postgres,
            ResolvedEngine::Mysql => Engine::Mysql,
            ResolvedEngine::Redis => Engine::Redis,
        }
    }

    /// Returns the host, or the directory of a Unix socket. For a cluster, the first node's.
    pub fn host(&self) -> String {
        self.pool
            .host()
            .or_else(|| self.first_node().map(|(host, _)| host))
            .unwrap_or_default()
    }

    /// Returns the port. Default: 5432, 3306 or 6379.
    pub fn port(&self) -> u16 {
        let node = self.first_node().filter(|_| self.pool.host().is_none());
        node.map_or_else(|| self.pool.port(), |(_, port)| port)
    }

    fn first_node(&self) -> Option<(String, u16)> {
        self.pool.nodes().into_iter().next().flatten()
    }

    /// Returns the user of the settings. `None` if the provider determines it.
    pub fn user(&self) -> Option<String> {
        self.pool.user()
    }

    /// Returns the database of the settings, or for PostgreSQL that of `PGDATABASE`.
    pub fn database(&self) -> Option<String> {
        self.pool.database()
    }

    /// Returns the name of the connections at the server.
    pub fn application_name(&self) -> Option<&str> {
        self.pool.settings.application_name.as_deref()
    }

    /// Returns the mode of TLS, or that of the pool's driver without a setting.
    pub fn tls_mode(&self) -> TlsMode {
        match self.pool.ssl_mode() {
            Some(SslMode::Disable) => TlsMode::Disable,
            Some(SslMode::Prefer) => TlsMode::Prefer,
            Some(SslMode::Require) => TlsMode::Require,
            Some(SslMode::VerifyCa) => TlsMode::VerifyCa,
            Some(SslMode::VerifyFull) => TlsMode::VerifyFull,
            None if self.engine() != Engine::Redis => TlsMode::Prefer,
            None if self.pool.has_tls_scheme() => TlsMode::VerifyFull,
            None => TlsMode::Disable,
        }
    }

    /// Returns the PEM file with the authorities of the server.
    pub fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    /// Returns the PEM files with the client's certificate and its key. `None` if the driver sends
    /// none.
    pub fn client_certificate(&self) -> Option<(&Path, &Path)> {
        let (certificate, key) = self.client_certificate.as_ref()?;
        Some((certificate, key))
    }

    /// Returns the maximum number of connections: 1 for kinds that share one.
    pub fn max_connections(&self) -> u32 {
        match self.pool.kind {
            PoolKind::Redis | PoolKind::RedisManaged | PoolKind::RedisCluster => 1,
            _ => self.pool.max_connections(),
        }
    }

    /// Returns the connections above the maximum during a handover: `overlap` of the settings.
    /// Default: a quarter of the maximum, and at least 1. Pools that are always updated in place
    /// have 1.
    pub fn overlap(&self) -> u32 {
        let settings = &self.pool.settings;
        match settings.handover {
            Some(Handover::AlwaysInPlace) => 1,
            _ => settings
                .overlap
                .unwrap_or((self.max_connections() / 4).max(1)),
        }
    }

    /// Returns the age at which a connection is closed. `None` for kinds without this setting.
    pub fn max_lifetime(&self) -> Option<Duration> {
        (self.engine() != Engine::Redis).then(|| self.pool.max_lifetime())
    }

    /// Returns the name of the provider. Pools with the same name share it.
    pub fn provider_name(&self) -> String {
        self.pool.provider_name()
    }

    /// Returns the backend of the credentials.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Returns the provider of the credentials.
    ///
    /// # Errors
    /// A setting of the provider is invalid: a region that is not the host's, a file that cannot be
    /// read.
    pub fn provider(&self) -> Result<&AnyProvider, &ConfigError> {
        self.provider.as_ref()
    }

    /// Returns the configuration of AWS, if any provider of the file needs it.
    #[cfg(any(
        feature = "elasticache-iam",
        feature = "rds-iam",
        feature = "secrets-manager"
    ))]
    pub fn aws(&self) -> Option<&SdkConfig> {
        self.aws.as_ref()
    }

    /// Returns the session of the provider at Vault, if Vault is its backend.
    #[cfg(feature = "vault")]
    pub fn vault_session(&self) -> Option<&claviger_vault::VaultSession> {
        self.vault_session.as_ref()
    }
}

/// Returns a connection for each pool. One whose provider cannot be created has the reason.
pub(crate) async fn connections(
    origin: &str,
    file: &File,
    pools: Vec<ResolvedPool>,
) -> Vec<Connection> {
    let providers = Providers::new(origin, file).await;
    let mut connections: Vec<Connection> = Vec::new();
    for pool in pools {
        let same_provider = connections
            .iter()
            .find(|connection| connection.provider_name() == pool.provider_name());
        let provider = match (same_provider, &pool.settings.provider) {
            (Some(connection), _) => connection.provider.clone(),
            (None, None) => providers.of_pool(&pool),
            (None, Some(name)) => match file.providers.get(name) {
                Some(settings) => providers.of_file(name, settings),
                None => {
                    let key = pool.key("provider");
                    Err(ConfigError::one(origin, key, ADDED_BY_SERVICE))
                }
            },
        };
        #[cfg(feature = "vault")]
        let vault_session = (pool.settings.provider.as_ref())
            .and_then(|name| providers.vault_session(file.providers.get(name)?));
        connections.push(Connection {
            backend: backend(file, &pool),
            provider,
            ca_file: pool.ca_file(),
            client_certificate: pool.client_certificate_file().zip(pool.client_key_file()),
            pool,
            #[cfg(any(
                feature = "elasticache-iam",
                feature = "rds-iam",
                feature = "secrets-manager"
            ))]
            aws: providers.aws().cloned(),
            #[cfg(feature = "vault")]
            vault_session,
        });
    }
    connections
}

fn backend(file: &File, pool: &ResolvedPool) -> Backend {
    let settings = match &pool.settings.provider {
        Some(name) => file.providers.get(name),
        None if pool.settings.aws_iam_auth => {
            let host = pool.host().unwrap_or_default();
            let region = pool.settings.region.clone();
            return Backend::RdsIam { host, region };
        }
        None => {
            return match pool.password() {
                Some(Secret::File(path)) => Backend::File { path },
                _ => Backend::Static,
            };
        }
    };
    let vault = |name: &Option<String>, path: String| {
        let server = match name {
            Some(name) => file.vaults.get(name),
            None => file.vaults.values().next(),
        };
        server.map_or(Backend::Static, |server| Backend::Vault {
            address: server.address.clone(),
            ca_file: server.ca_file.clone(),
            auth: match server.auth {
                VaultAuth::Token { .. } => "token",
                VaultAuth::AppRole { .. } => "app-role",
                VaultAuth::Kubernetes { .. } => "kubernetes",
                VaultAuth::Jwt { .. } => "jwt",
            },
            path,
        })
    };
    let mount =
        |mount: &Option<String>, default: &str| mount.as_deref().unwrap_or(default).to_owned();
    match settings {
        None | Some(ProviderSettings::Service(_)) => Backend::Service,
        Some(ProviderSettings::Static(_)) => Backend::Static,
        Some(ProviderSettings::File(settings)) => Backend::File {
            path: settings.path.clone(),
        },
        Some(ProviderSettings::RdsIam(settings)) => Backend::RdsIam {
            host: settings.host.clone(),
            region: settings.region.clone(),
        },
        Some(ProviderSettings::ElasticacheIam(settings)) => Backend::ElasticacheIam {
            cache: settings.cache.clone(),
        },
        Some(ProviderSettings::SecretsManager(settings)) => Backend::SecretsManager {
            secret: settings.secret.clone(),
        },
        Some(ProviderSettings::VaultDynamic(role)) => {
            let path = format!("{}/creds/{}", mount(&role.mount, "database"), role.role);
            vault(&role.vault, path)
        }
        Some(ProviderSettings::VaultStatic(role)) => {
            let path = format!(
                "{}/static-creds/{}",
                mount(&role.mount, "database"),
                role.role
            );
            vault(&role.vault, path)
        }
        Some(ProviderSettings::VaultKv(kv)) => {
            let path = format!("{}/data/{}", mount(&kv.mount, "secret"), kv.path);
            vault(&kv.vault, path)
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("name", &self.pool.name)
            .field("kind", &self.pool.kind)
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}
