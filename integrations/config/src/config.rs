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

use crate::check::check;
use crate::conform::{conform, secrets_in_file};
use crate::connection::{Connection, connections};
use crate::error::{ConfigError, Problem};
use crate::json_schema::json_schema;
use crate::running_pools::RunningPools;
use crate::schema::File;
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
        let in_file = read_file(path, &Variables::new())?;
        let merged = read_file(path, &variables)?;
        let mut problems = Vec::new();
        if !is_for_development(&in_file) {
            problems = secrets_in_file(&in_file, &Self::json_schema());
        }
        Self::from_value(origin, merged, &variables, problems)
    }

    /// Reads the configuration of a service with one database from environment variables such as
    /// `DATABASE_URL`. Its pool is named `database`. The pool of `REDIS_URL` is named `redis`.
    ///
    /// | variable | meaning |
    /// |---|---|
    /// | `DATABASE_URL` | `postgres://orders@db.internal/orders`, also `mysql://` |
    /// | `DATABASE_PASSWORD_FILE` | file with the password, which is watched |
    /// | `DATABASE_SECRET_ID` | secret of AWS Secrets Manager |
    /// | `DATABASE_AWS_IAM_AUTH` | `true`: IAM tokens of RDS |
    /// | `DATABASE_MAX_CONNECTIONS`, … | any key of a pool, in capitals |
    ///
    /// # Errors
    /// No URL is set, or as [`load`](Self::load).
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(&environment())
    }

    pub(crate) fn from_variables(variables: &Variables) -> Result<Self, ConfigError> {
        let origin = "the environment";
        let schema = Self::json_schema();
        let value = from_variables(variables, &schema)
            .map_err(|problems| ConfigError::new(origin, problems))?;
        Self::from_value(origin.to_owned(), value, &Variables::new(), Vec::new())
    }

    /// Resolves references, and converts the values to their types.
    fn from_value(
        origin: String,
        mut value: Value,
        variables: &Variables,
        mut problems: Vec<Problem>,
    ) -> Result<Self, ConfigError> {
        problems.extend(conform(&mut value, &Self::json_schema(), variables));
        if !problems.is_empty() {
            return Err(ConfigError::new(&origin, problems));
        }
        let file = serde_path_to_error::deserialize(value).map_err(|error| {
            let key = error.path().to_string();
            ConfigError::one(&origin, key, without_value(&error.into_inner().to_string()))
        })?;
        Ok(Self {
            origin,
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

    pub(crate) fn resolved_pools(
        &self,
    ) -> Result<Vec<crate::resolved_pool::ResolvedPool>, ConfigError> {
        let registered: Vec<_> = self.registered.keys().map(String::as_str).collect();
        let checked = check(&self.file, &registered, self.for_tools);
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
            Err(ConfigError::new(&self.origin, problems))
        }
    }

    /// Accepts kinds of pools whose feature is not enabled: for tools that open no pool.
    /// [`start`](Self::start) still returns an error for them.
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

    /// Returns the pools with their settings and providers, for tools. Connects to no database and
    /// fetches no credentials.
    ///
    /// # Errors
    /// As [`check`](Self::check), or the settings of a Vault server are invalid.
    ///
    /// # Cancel safety
    /// Dropping the future is safe.
    pub async fn connections(&self) -> Result<Vec<Connection>, ConfigError> {
        connections(&self.origin, &self.file, self.resolved_pools()?).await
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
        let started = self.start_on(&supervisor).await;
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
