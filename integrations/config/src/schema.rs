//! What a configuration file may contain. The JSON schema is generated from these types.

mod vault;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::values::{HumanDuration, Secret};
pub(crate) use vault::{VaultAuth, VaultSettings};

/// Providers and pools of a service.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "claviger.toml")]
pub(crate) struct File {
    /// Allows passwords and tokens in the file itself. For development only. Default: false.
    pub(crate) development: bool,
    /// Durations of the supervisor.
    pub(crate) supervisor: SupervisorSettings,
    /// Access to AWS. Default: environment, profile or instance role, as in every AWS SDK.
    pub(crate) aws: AwsSettings,
    /// Servers of Vault or OpenBao, by name.
    pub(crate) vaults: BTreeMap<String, VaultSettings>,
    /// Values for pools that do not set them.
    pub(crate) defaults: PoolDefaults,
    /// Providers of credentials, by name.
    pub(crate) providers: BTreeMap<String, ProviderSettings>,
    /// Pools of connections, by name.
    pub(crate) pools: BTreeMap<String, PoolSettings>,
}

/// Durations of the supervisor.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SupervisorSettings {
    /// Fails the start at the first failed fetch or login, without retries until the start
    /// deadline. Default: false.
    pub(crate) fail_fast: bool,
    /// Starts without waiting for backends or databases. Readiness reports what is missing.
    /// Default: false.
    pub(crate) start_in_background: bool,
    /// Time during which a start retries transient errors. Default: 30s.
    pub(crate) start_deadline: Option<HumanDuration>,
    /// Longest time of one fetch. Default: 30s.
    pub(crate) fetch_deadline: Option<HumanDuration>,
    /// Longest time of one verification. Default: 5s.
    pub(crate) verify_deadline: Option<HumanDuration>,
    /// Time after which connections of an old generation are reported. Default: 1m.
    pub(crate) drain_deadline: Option<HumanDuration>,
    /// Time between two fetches of a credential that never expires. Default: 5m.
    pub(crate) poll_interval: Option<HumanDuration>,
    /// Remaining lifetime below which the service is not ready. Default: 5s.
    pub(crate) ready_margin: Option<HumanDuration>,
    /// Time for which the previous lease is kept after a rotation, so that a pool can be rolled
    /// back. Default: 0s.
    pub(crate) previous_lease_kept_for: Option<HumanDuration>,
}

/// Access to AWS.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AwsSettings {
    /// Region, such as `eu-west-1`.
    pub(crate) region: Option<String>,
    /// Profile of AWS's shared configuration files.
    pub(crate) profile: Option<String>,
    /// URL of an endpoint in place of AWS's, for a VPC endpoint or a test server.
    pub(crate) endpoint_url: Option<String>,
}

/// A provider of credentials.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum ProviderSettings {
    /// A mounted file.
    File(FileSettings),
    /// Credentials that never change.
    Static(StaticSettings),
    /// IAM tokens for RDS, signed locally.
    RdsIam(RdsSettings),
    /// IAM tokens for ElastiCache and MemoryDB, signed locally.
    ElasticacheIam(CacheSettings),
    /// A secret of AWS Secrets Manager.
    SecretsManager(SecretSettings),
    /// Users that Vault or OpenBao creates for the service.
    VaultDynamic(RoleSettings),
    /// A database user whose password Vault or OpenBao rotates.
    VaultStatic(RoleSettings),
    /// A secret of a KV engine of version 2.
    VaultKv(KvSettings),
    /// A provider that the service adds by `with_provider`. Tools do not check it.
    Service(ServiceSettings),
}

/// A provider that the service adds.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceSettings {}

/// A mounted file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSettings {
    /// Path of the file, or of the directory.
    #[schemars(extend("x-path" = true))]
    pub(crate) path: PathBuf,
    /// Format of the file.
    pub(crate) format: FileFormat,
    /// User, if the file contains only the password.
    pub(crate) user: Option<String>,
    /// Key of the user in a JSON file or directory. Default: `username`.
    pub(crate) user_key: Option<String>,
    /// Key of the password in a JSON file or directory. Default: `password`.
    pub(crate) password_key: Option<String>,
    /// Time between two polls, in addition to notifications of the file system.
    pub(crate) poll_interval: Option<HumanDuration>,
    /// Whether the password is a bearer token. Default: false.
    #[serde(default)]
    pub(crate) token: bool,
}

/// Credentials that never change.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StaticSettings {
    /// Database user.
    pub(crate) user: String,
    /// Password: `${NAME}` or `file:/path`.
    pub(crate) password: Secret,
}

/// IAM tokens for RDS.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RdsSettings {
    /// Endpoint of the instance, cluster or proxy.
    pub(crate) host: String,
    /// Port of the endpoint.
    pub(crate) port: u16,
    /// Database user.
    pub(crate) user: String,
    /// Region. Default: that of the endpoint's name.
    pub(crate) region: Option<String>,
}

/// IAM tokens for ElastiCache and MemoryDB.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CacheSettings {
    /// Kind of the cache.
    pub(crate) cache_kind: CacheKind,
    /// Name of the cache, in lower case.
    pub(crate) cache: String,
    /// User of the cache.
    pub(crate) user: String,
    /// Region. Default: that of `[aws]`.
    pub(crate) region: Option<String>,
}

/// A secret of AWS Secrets Manager.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretSettings {
    /// Name or ARN of the secret.
    pub(crate) secret: String,
    /// User, if the secret contains only the password.
    pub(crate) user: Option<String>,
    /// Key of the user in the secret. Default: `username`.
    pub(crate) user_key: Option<String>,
    /// Key of the password in the secret. Default: `password`.
    pub(crate) password_key: Option<String>,
    /// Key of the host in the secret. Default: `host`.
    pub(crate) host_key: Option<String>,
    /// Key of the port in the secret. Default: `port`.
    pub(crate) port_key: Option<String>,
    /// Key of the database in the secret. Default: `dbname`.
    pub(crate) database_key: Option<String>,
    /// Takes host, port and database from the secret. Default: false.
    #[serde(default)]
    pub(crate) endpoint_from_secret: bool,
    /// Whether the rotation alternates between two users. Default: false.
    #[serde(default)]
    pub(crate) alternating_users: bool,
}

/// A role of Vault's database engine.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleSettings {
    /// Name in `[vaults]`. Default: the only one.
    pub(crate) vault: Option<String>,
    /// Mount of the database engine. Default: `database`.
    pub(crate) mount: Option<String>,
    /// Role in the database engine.
    pub(crate) role: String,
}

/// A secret of a KV engine of Vault.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KvSettings {
    /// Name in `[vaults]`. Default: the only one.
    pub(crate) vault: Option<String>,
    /// Mount of the KV engine. Default: `secret`.
    pub(crate) mount: Option<String>,
    /// Path of the secret.
    pub(crate) path: String,
    /// Key of the user in the secret. Default: `username`.
    pub(crate) user_key: Option<String>,
    /// Key of the password in the secret. Default: `password`.
    pub(crate) password_key: Option<String>,
}

/// Format of a mounted file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FileFormat {
    /// A JSON object.
    Json,
    /// A directory with a file for each key, such as a mounted Kubernetes secret.
    Directory,
    /// A URL.
    Url,
    /// Only the password.
    Password,
}

/// Kind of a cache of ElastiCache or MemoryDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CacheKind {
    /// Serverless cache of ElastiCache.
    Serverless,
    /// Node-based cluster of ElastiCache.
    NodeBased,
    /// Cluster of MemoryDB.
    Memorydb,
}

/// Values for pools that do not set them.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PoolDefaults {
    /// Maximum number of connections of a pool.
    pub(crate) max_connections: Option<u32>,
    /// Number of connections that are opened ahead of demand.
    pub(crate) min_connections: Option<u32>,
    /// Age at which a connection is closed.
    pub(crate) connection_max_lifetime: Option<HumanDuration>,
    /// Idle time after which a connection is closed.
    pub(crate) idle_timeout: Option<HumanDuration>,
    /// Longest time that a call waits for its connection, across generations.
    pub(crate) acquire_timeout: Option<HumanDuration>,
}

/// A pool of connections. Exactly one of `provider`, `aws_iam_auth`, `password` and the password in
/// `url` provides its credentials.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PoolSettings {
    /// Kind of the pool. Default: by the scheme of the URL; `postgres` without a URL.
    pub(crate) kind: Option<PoolKind>,
    /// Name of the provider in `[providers]`.
    pub(crate) provider: Option<String>,
    /// URL such as `postgres://orders@db.internal/orders`. Its parts are defaults for the keys
    /// below.
    #[schemars(extend("x-url" = true))]
    pub(crate) url: Option<String>,
    /// Host name or address. A path is a directory of Unix sockets.
    pub(crate) host: Option<String>,
    /// Nodes of a cluster that are contacted first, as `host` or `host:port`. The client finds the
    /// others. Default: the node of `host`.
    pub(crate) nodes: Vec<String>,
    /// Port. Default: 5432, 3306 or 6379.
    pub(crate) port: Option<u16>,
    /// User, for `password` and `aws_iam_auth`.
    pub(crate) user: Option<String>,
    /// Password: `${NAME}`, which never changes, or `file:/path`, which is watched.
    pub(crate) password: Option<Secret>,
    /// Name of the database. For Redis, its number.
    pub(crate) database: Option<String>,
    /// Logs in with IAM tokens of RDS. Default: false.
    pub(crate) aws_iam_auth: bool,
    /// Region for `aws_iam_auth`. Default: that of the endpoint's name.
    pub(crate) region: Option<String>,
    /// TLS, and verification of the server. Default: `verify-full` with tokens or `ca_file`;
    /// otherwise the driver's.
    pub(crate) ssl_mode: Option<SslMode>,
    /// PEM file with the authorities that may sign the server's certificate. Default: the
    /// platform's.
    #[schemars(extend("x-path" = true))]
    pub(crate) ca_file: Option<PathBuf>,
    /// PEM file with the client's certificate.
    #[schemars(extend("x-path" = true))]
    pub(crate) client_certificate_file: Option<PathBuf>,
    /// PEM file with the key of the client's certificate.
    #[schemars(extend("x-path" = true))]
    pub(crate) client_key_file: Option<PathBuf>,
    /// Name of these connections at the server.
    pub(crate) application_name: Option<String>,
    /// Maximum number of connections. Default: 10.
    pub(crate) max_connections: Option<u32>,
    /// Number of connections that are opened ahead of demand. Default: 0.
    pub(crate) min_connections: Option<u32>,
    /// Age at which a connection is closed. Default: 14m with tokens, otherwise 30m.
    pub(crate) connection_max_lifetime: Option<HumanDuration>,
    /// Idle time after which a connection is closed. Default: 10m.
    pub(crate) idle_timeout: Option<HumanDuration>,
    /// Longest time that a call waits for its connection, across generations. Default: 30s.
    pub(crate) acquire_timeout: Option<HumanDuration>,
    /// Idle time after which a connection is checked before a call gets it. Default: kinds of sqlx
    /// check every connection, and the others none.
    pub(crate) check_after_idle: Option<HumanDuration>,
    /// Connections above `max_connections` during a replacement. Default: a quarter, at least 1.
    pub(crate) overlap: Option<u32>,
    /// Whether a handover replaces the pool. Default: `as-leased`.
    pub(crate) handover: Option<Handover>,
}

/// Kind of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PoolKind {
    /// PostgreSQL through sqlx.
    Postgres,
    /// MySQL and MariaDB through sqlx.
    Mysql,
    /// PostgreSQL through deadpool-postgres.
    DeadpoolPostgres,
    /// PostgreSQL through diesel-async and deadpool.
    DieselPostgres,
    /// PostgreSQL through bb8 and tokio-postgres.
    Bb8Postgres,
    /// Redis or Valkey, one connection for all callers.
    Redis,
    /// Redis or Valkey, one connection for all callers, which reconnects by itself.
    RedisManaged,
    /// A cluster of Redis or Valkey.
    RedisCluster,
    /// Redis or Valkey, each caller with a connection of its own.
    RedisExclusive,
}

/// TLS, and verification of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SslMode {
    /// No TLS.
    Disable,
    /// TLS if the server supports it.
    Prefer,
    /// TLS.
    Require,
    /// TLS, with a certificate of a known authority.
    VerifyCa,
    /// TLS, with a certificate of a known authority for this host.
    VerifyFull,
}

/// Whether a handover replaces the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Handover {
    /// Mode that each lease requests.
    AsLeased,
    /// Update in place.
    AlwaysInPlace,
    /// Replacement by a new pool.
    AlwaysReplace,
}
