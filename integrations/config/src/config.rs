//! The configuration of a service: reading, checks and start.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use claviger::supervisor::ProviderRef;
use claviger::{Credentials, Error, Provider, Supervisor};
use futures_util::future::try_join_all;
use serde::Deserialize;
use serde_json::Value;

use crate::check::{Surroundings, check};
use crate::conform::conform;
use crate::connection::{Connection, connections};
use crate::error::{ConfigError, Problem};
use crate::json_schema::json_schema;
use crate::libpq::Libpq;
use crate::missing_files::missing_files;
use crate::origins::Origins;
use crate::resolved_pool::ResolvedPool;
use crate::running_pools::RunningPools;
use crate::schema::{File, ProviderSettings};
use crate::secrets_in_file::secrets_in_file;
use crate::source::{Variables, environment, read_file};
use crate::start::{builder, register};
use crate::variables::from_variables;

/// Time limit of the shutdown after a failed start.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

type Registered<'s> =
    Pin<Box<dyn Future<Output = Result<ProviderRef<Credentials>, Error>> + Send + 's>>;
type Register = Box<dyn for<'s> FnOnce(&'s Supervisor, &'s str) -> Registered<'s> + Send>;

/// Providers and pools of a service, as read from a file or the environment.
///
/// ```no_run
/// use claviger::PgPools;
/// use claviger_config::Config;
///
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// let pools = Config::load("claviger.toml")?.start().await?;
/// let orders = pools.get::<PgPools>("orders")?;
/// let n: i64 = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&orders).await?;
/// # let _ = n;
/// # Ok(()) }
/// ```
#[must_use = "nothing runs before `start`"]
pub struct Config {
    origin: String,
    origins: Origins,
    libpq: Libpq,
    is_environment: bool,
    file: File,
    registered: BTreeMap<String, Register>,
    /// Names that the service has given to more than one provider.
    taken: BTreeSet<String>,
    for_tools: bool,
}

impl Config {
    /// Reads a file: `.toml`, `.yaml` or `.yml`. Nothing connects yet.
    ///
    /// Environment variables such as `CLAVIGER_POOLS__ORDERS__PORT` override single values.
    ///
    /// # Errors
    /// All problems of the file: unknown keys, values of a wrong type, variables that are not set,
    /// secrets in the file. For an unknown key, the message names the nearest known one.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let origin = path.display().to_string();
        let variables = environment();
        let read = read_file(path, &variables)?;
        let mut problems = Vec::new();
        if !is_for_development(&read.in_file) {
            problems = secrets_in_file(&read.in_file, &Self::json_schema());
        }
        let config = Self::from_value(&origin, read.merged, &variables, problems);
        Self::with_origins(config, read.origins, &variables)
    }

    /// Reads the configuration of a service with one database from environment variables such as
    /// `DATABASE_URL`. Its pool is named `database`. The pool of `REDIS_URL` is named `redis`.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `DATABASE_URL` | `postgres://orders@db.internal/orders`, also `mysql://` |
    /// | `DATABASE_HOST`, `DATABASE_PORT`, `DATABASE_NAME`, `DATABASE_USER` | parts of the URL; also `DATABASE_USERNAME` and `DATABASE_DB` |
    /// | `DATABASE_PASSWORD`, `DATABASE_PASSWORD_FILE` | the password, or a file with it, which is watched |
    /// | `DATABASE_SECRET_ID` | secret of AWS Secrets Manager |
    /// | `DATABASE_AWS_IAM_AUTH` | `true`: IAM tokens of RDS |
    /// | `DATABASE_MAX_CONNECTIONS`, … | any key of a pool, in capitals |
    ///
    /// Empty variables count as not set. `REDIS_URL` or `REDIS_HOST` without credentials has no
    /// effect if there is a database: another library may use it.
    ///
    /// # Errors
    /// No URL is set, or as [`load`](Self::load).
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(&environment())
    }

    pub(crate) fn from_variables(variables: &Variables) -> Result<Self, ConfigError> {
        let origin = "the environment";
        let schema = Self::json_schema();
        let (value, origins) = from_variables(variables, &schema)
            .map_err(|problems| ConfigError::new(origin, problems))?;
        let config = Self::from_value(origin, value, &Variables::new(), Vec::new());
        let mut config = Self::with_origins(config, origins, variables)?;
        config.is_environment = true;
        Ok(config)
    }

    /// Names the variables that have given values, in an error now and later.
    fn with_origins(
        config: Result<Self, ConfigError>,
        origins: Origins,
        variables: &Variables,
    ) -> Result<Self, ConfigError> {
        let mut config = config.map_err(|error| error.explained_by(&origins))?;
        config.origins = origins;
        config.libpq = Libpq::new(variables);
        Ok(config)
    }

    /// Resolves references, and converts the values to their types.
    fn from_value(
        origin: &str,
        mut value: Value,
        variables: &Variables,
        mut problems: Vec<Problem>,
    ) -> Result<Self, ConfigError> {
        problems.extend(conform(&mut value, &Self::json_schema(), variables));
        if !problems.is_empty() {
            return Err(ConfigError::new(origin, problems));
        }
        let file = serde_path_to_error::deserialize(value).map_err(|error| {
            let key = error.path().to_string();
            ConfigError::one(origin, key, without_value(&error.into_inner().to_string()))
        })?;
        Ok(Self {
            origin: origin.to_owned(),
            origins: Origins::default(),
            libpq: Libpq::default(),
            is_environment: false,
            file,
            registered: BTreeMap::new(),
            taken: BTreeSet::new(),
            for_tools: false,
        })
    }

    /// Returns the JSON schema of a file, for editors. It is also in the package, as
    /// `claviger.schema.json`.
    pub fn json_schema() -> Value {
        json_schema()
    }

    /// Adds a provider that the service creates. Pools of the file name it by `provider`.
    ///
    /// A name that another provider has, in the file or by this method, is a problem that
    /// [`check`](Self::check) and [`start`](Self::start) return.
    pub fn with_provider<P>(mut self, name: impl Into<String>, provider: P) -> Self
    where
        P: Provider<Secret = Credentials>,
    {
        let in_background = self.file.supervisor.start_in_background;
        let register: Register = Box::new(move |supervisor, name| {
            Box::pin(async move {
                if in_background {
                    supervisor.add_provider_in_background(name, provider)
                } else {
                    supervisor.add_provider(name, provider).await
                }
            })
        });
        let name = name.into();
        if self.registered.insert(name.clone(), register).is_some() {
            self.taken.insert(name);
        }
        self
    }

    /// Checks keys that depend on each other: names of providers, keys that need another key, keys
    /// that a kind of pool does not have. [`start`](Self::start) runs the same checks first.
    ///
    /// # Errors
    /// All problems.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.resolved_pools().map(drop)
    }

    pub(crate) fn resolved_pools(&self) -> Result<Vec<ResolvedPool>, ConfigError> {
        self.checked_pools(false)
    }

    fn checked_pools(&self, pools_apart: bool) -> Result<Vec<ResolvedPool>, ConfigError> {
        let registered: Vec<_> = self.registered.keys().map(String::as_str).collect();
        let checked = check(
            &self.file,
            &Surroundings {
                registered: &registered,
                libpq: &self.libpq,
                for_tools: self.for_tools,
                pools_apart,
                is_environment: self.is_environment,
            },
        );
        let twice = self.taken.iter().map(|name| {
            let message = "is added twice by the service; give each provider a name of its own";
            Problem::new(format!("providers.{name}"), message)
        });
        let mut problems: Vec<_> = twice.collect();
        let pools = checked.unwrap_or_else(|more| {
            problems.extend(more);
            Vec::new()
        });
        if problems.is_empty() {
            Ok(pools)
        } else {
            let error = ConfigError::new(&self.origin, problems);
            Err(error.explained_by(&self.origins))
        }
    }

    /// Checks that the files exist and are not empty that the configuration names: passwords,
    /// tokens, certificates, providers' files. A service may start before they do;
    /// [`start`](Self::start) waits for them.
    ///
    /// # Errors
    /// All files that cannot be read, or are empty.
    pub fn check_files(&self) -> Result<(), ConfigError> {
        let problems = missing_files(&self.file, &self.resolved_pools()?);
        if problems.is_empty() {
            return Ok(());
        }
        let error = ConfigError::new(&self.origin, problems);
        Err(error.explained_by(&self.origins))
    }

    /// Accepts kinds of pools whose feature is not enabled, and providers of kind `service`: for
    /// tools that open no pool. [`start`](Self::start) still returns an error for them.
    /// [`check`](Self::check) then also reports a `connection_max_lifetime` over 14 min of a pool
    /// with tokens.
    pub fn for_tools(mut self) -> Self {
        self.for_tools = true;
        self
    }

    /// Returns the names of the pools.
    pub fn pool_names(&self) -> impl Iterator<Item = &str> {
        self.file.pools.keys().map(String::as_str)
    }

    /// Returns the names under `[providers]`.
    pub fn provider_names(&self) -> impl Iterator<Item = &str> {
        self.file.providers.keys().map(String::as_str)
    }

    /// Returns the names under `[providers]` whose kind is `service`.
    pub fn service_provider_names(&self) -> impl Iterator<Item = &str> {
        let is_of_service =
            |settings: &ProviderSettings| matches!(settings, ProviderSettings::Service(_));
        let providers = self.file.providers.iter();
        providers
            .filter(move |(_, settings)| is_of_service(settings))
            .map(|(name, _)| name.as_str())
    }

    /// Returns the pools with their settings and providers, for tools. Connects to no database and
    /// fetches no credentials.
    ///
    /// # Errors
    /// As [`check`](Self::check). A provider that cannot be created is an error of
    /// [`Connection::provider`].
    ///
    /// # Cancel safety
    /// Dropping the future is safe.
    pub async fn connections(&self) -> Result<Vec<Connection>, ConfigError> {
        Ok(connections(&self.origin, &self.file, self.checked_pools(true)?).await)
    }

    /// Starts a supervisor with the providers and pools. Returns when the credentials of every pool
    /// are verified.
    ///
    /// Transient errors are retried until the start deadline (30 s). A start that waits logs the
    /// reason within a second. With `fail_fast`, a start fails at the first failed fetch or login.
    /// With `start_in_background`, a start does not wait for backends or databases.
    ///
    /// # Errors
    /// As [`check`](Self::check), or the first error of a provider or pool. After an error, the
    /// supervisor is shut down.
    ///
    /// # Cancel safety
    /// Dropping the future shuts the supervisor down.
    pub async fn start(self) -> Result<RunningPools, ConfigError> {
        self.check()?;
        let supervisor = builder(&self.file.supervisor)
            .start()
            .map_err(|error| ConfigError::start_failed(&self.origin, "supervisor", error))?;
        let mut guard = ShutdownOnDrop(Some(supervisor.clone()));
        let origins = self.origins.clone();
        let started = self.start_on(&supervisor).await;
        let started = started.map_err(|error| error.explained_by(&origins));
        guard.0 = None;
        if started.is_err() {
            supervisor.shutdown(SHUTDOWN_TIMEOUT).await;
        }
        started
    }

    /// Adds the providers and pools to a supervisor that the service has started. Of the keys under
    /// `[supervisor]`, only `start_in_background` has an effect.
    ///
    /// # Errors
    /// As [`start`](Self::start), but the supervisor continues with the providers and pools that
    /// were added before the error.
    ///
    /// # Cancel safety
    /// The supervisor continues with the providers and pools that were added before.
    pub async fn start_on(self, supervisor: &Supervisor) -> Result<RunningPools, ConfigError> {
        let pools = self.resolved_pools()?;
        let origin = &self.origin;
        let registered = self
            .registered
            .into_iter()
            .map(|(name, register)| async move {
                let provider = register(supervisor, &name).await.map_err(|error| {
                    ConfigError::start_failed(origin, format!("providers.{name}"), error)
                })?;
                Ok((name, provider))
            });
        let registered = try_join_all(registered).await?.into_iter().collect();
        register(&self.origin, supervisor, &self.file, &pools, registered).await
    }
}

/// Shuts the supervisor down when the future of a start is dropped.
struct ShutdownOnDrop(Option<Supervisor>);

impl Drop for ShutdownOnDrop {
    fn drop(&mut self) {
        if let Some(supervisor) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { supervisor.shutdown(SHUTDOWN_TIMEOUT).await });
        }
    }
}

fn is_for_development(file: &Value) -> bool {
    #[derive(Default, Deserialize)]
    struct Mark {
        #[serde(default)]
        development: bool,
    }
    Mark::deserialize(file).unwrap_or_default().development
}

/// Returns serde's message without the value that it contains.
fn without_value(message: &str) -> String {
    match message.split_once(", expected ") {
        Some((_, expected)) => format!("is invalid; give {expected}"),
        None => message.to_owned(),
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("origin", &self.origin)
            .field("providers", &self.file.providers.keys())
            .field("pools", &self.file.pools.keys())
            .finish_non_exhaustive()
    }
}
