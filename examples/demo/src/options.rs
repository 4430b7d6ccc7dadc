//! Options of the command line.

use std::time::Duration;

use lexopt::ValueExt;

pub(crate) const USAGE: &str = "\
usage: demo [--seconds N] [--pool NAME] [--database NAME] [--with BACKEND]
            [--window SECONDS] [--page] [--jaeger | --otlp URL] [--json]

  --seconds N       duration of the service, 5 to 86400 (default 30); at least 8
                    with rds-iam and 15 with vault, so that a credential expires
  --pool NAME       sqlx (default), deadpool, diesel or bb8 on PostgreSQL;
                    or redis
  --database NAME   with --pool sqlx: postgresql (default) or mariadb
  --with BACKEND    backend of the credentials; with --pool sqlx any of these:
                      file             a file that is rewritten (default)
                      rds-iam          tokens as on RDS, with a lifetime of 6 s
                      secrets-manager  AWS's four rotation steps, by moto
                      vault            dynamic users (ttl 10 s), by OpenBao
  --window SECONDS  with secrets-manager: from setSecret to finishSecret,
                    0.1 to 60 (default 10)
  --page            serves the status page, and prints its address; without
                    --seconds the demo then runs until Ctrl-C
  --jaeger          starts a Jaeger, and draws the trace of the last rotation
  --otlp URL        sends the traces to your own Jaeger (OTLP over HTTP, such as
                    http://localhost:4318), and draws the last one if its API
                    responds on port 16686 of the same host; a collector that is
                    not available is reported, and does not fail the demo
  --json            writes events as JSON, one object a line, and nothing else;
                    examples/demo/README.md describes them
";

/// Shortest duration, in seconds. Enough for one step of each kind.
const SHORTEST: u64 = 5;
const LONGEST: u64 = 86_400;
/// Default duration, in seconds.
const DEFAULT: u64 = 30;
/// Duration of a demo that runs until Ctrl-C, in seconds: a year.
const UNTIL_STOPPED: u64 = 365 * LONGEST;

pub(crate) struct Options {
    pub(crate) duration: Duration,
    pub(crate) pool: Pool,
    #[cfg(feature = "sqlx")]
    pub(crate) database: DatabaseName,
    pub(crate) backend: Backend,
    #[cfg_attr(
        not(feature = "secrets-manager"),
        expect(dead_code, reason = "read by that script only")
    )]
    pub(crate) window: Duration,
    #[cfg_attr(
        not(feature = "traces"),
        expect(dead_code, reason = "read with the feature traces only")
    )]
    pub(crate) traces: Traces,
    /// Whether the status page is served.
    #[cfg_attr(
        not(feature = "page"),
        expect(dead_code, reason = "read with the feature page only")
    )]
    pub(crate) page: bool,
    /// Whether events are written as JSON.
    pub(crate) json: bool,
}

/// Destination of the traces.
#[derive(Debug)]
pub(crate) enum Traces {
    None,
    #[cfg(feature = "traces")]
    OwnJaeger,
    #[cfg(feature = "traces")]
    Collector(String),
}

/// Kind of the pools.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pool {
    #[cfg(feature = "sqlx")]
    Sqlx,
    #[cfg(feature = "deadpool")]
    Deadpool,
    #[cfg(feature = "diesel")]
    Diesel,
    #[cfg(feature = "bb8")]
    Bb8,
    #[cfg(feature = "redis")]
    Redis,
}

/// Database of sqlx's pools.
#[derive(Clone, Copy)]
pub(crate) enum DatabaseName {
    PostgreSql,
    #[cfg(feature = "mariadb")]
    MariaDb,
}

#[derive(Clone, Copy)]
pub(crate) enum Backend {
    File,
    #[cfg(feature = "rds-iam")]
    RdsIam,
    #[cfg(feature = "secrets-manager")]
    SecretsManager,
    #[cfg(feature = "vault")]
    Vault,
}

impl Pool {
    const NAMES: [&str; 5] = ["sqlx", "deadpool", "diesel", "bb8", "redis"];

    /// The kinds in this build.
    const BUILT: &[(&str, Self)] = &[
        #[cfg(feature = "sqlx")]
        ("sqlx", Self::Sqlx),
        #[cfg(feature = "deadpool")]
        ("deadpool", Self::Deadpool),
        #[cfg(feature = "diesel")]
        ("diesel", Self::Diesel),
        #[cfg(feature = "bb8")]
        ("bb8", Self::Bb8),
        #[cfg(feature = "redis")]
        ("redis", Self::Redis),
    ];

    fn is_sqlx(self) -> bool {
        #[cfg(feature = "sqlx")]
        return self == Self::Sqlx;
        #[cfg(not(feature = "sqlx"))]
        false
    }
}

impl Backend {
    /// Returns the minimum duration of its scenario, in seconds.
    const fn shortest(self) -> u64 {
        match self {
            Self::File => SHORTEST,
            // The plain pool fails after the lifetime of its credential, for some seconds.
            #[cfg(feature = "rds-iam")]
            Self::RdsIam => 8,
            #[cfg(feature = "secrets-manager")]
            Self::SecretsManager => SHORTEST,
            #[cfg(feature = "vault")]
            Self::Vault => 15,
        }
    }
}

impl Options {
    /// Returns what the demo shows.
    pub(crate) fn purpose(&self) -> &'static str {
        match self.backend {
            Backend::File => {
                "Shown here: no call fails while passwords change; a plain pool's calls do."
            }
            #[cfg(feature = "rds-iam")]
            Backend::RdsIam => {
                "Shown here: no call fails while tokens expire; a plain pool's calls do."
            }
            #[cfg(feature = "secrets-manager")]
            Backend::SecretsManager => {
                "Shown here: no call fails in AWS's four rotation steps; a plain pool's calls do."
            }
            #[cfg(feature = "vault")]
            Backend::Vault => {
                "Shown here: no call fails while dynamic users expire; a plain pool's calls do."
            }
        }
    }

    /// Returns `None` if help was requested.
    pub(crate) fn from_arguments() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::Arg::{Long, Short};
        let (mut seconds, mut window, mut page) = (None, 10.0, false);
        let (mut pool, mut database, mut backend) = (None, None, Backend::File);
        let (mut traces, mut json) = (Traces::None, false);
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("seconds") => seconds = Some(parser.value()?.parse()?),
                Long("window") => window = parser.value()?.parse()?,
                Long("pool") => pool = Some(parser.value()?.parse_with(parse_pool)?),
                Long("database") => database = Some(parser.value()?.parse_with(parse_database)?),
                Long("with") => backend = parser.value()?.parse_with(parse_backend)?,
                Long("page") => page = with_page()?,
                Long("jaeger") => traces = own_jaeger()?,
                Long("otlp") => traces = parser.value()?.parse_with(parse_collector)?,
                Long("json") => json = true,
                Short('h') | Long("help") => return Ok(None),
                argument => return Err(argument.unexpected()),
            }
        }
        let pool = match pool {
            Some(pool) => pool,
            None => parse_pool("sqlx")?,
        };
        if !pool.is_sqlx() && (database.is_some() || !matches!(backend, Backend::File)) {
            return Err("--database and --with: only with --pool sqlx".into());
        }
        let shortest = backend.shortest();
        if let Some(seconds) = seconds.filter(|seconds| !(shortest..=LONGEST).contains(seconds)) {
            return Err(
                format!("--seconds {seconds}: must be between {shortest} and {LONGEST}").into(),
            );
        }
        let seconds = seconds.unwrap_or(if page { UNTIL_STOPPED } else { DEFAULT });
        if !(0.1..=60.0).contains(&window) {
            return Err(format!("--window {window}: must be between 0.1 and 60").into());
        }
        Ok(Some(Self {
            duration: Duration::from_secs(seconds),
            pool,
            #[cfg(feature = "sqlx")]
            database: database.unwrap_or(DatabaseName::PostgreSql),
            backend,
            window: Duration::from_secs_f64(window),
            traces,
            page,
            json,
        }))
    }
}

#[cfg(feature = "page")]
fn with_page() -> Result<bool, String> {
    Ok(true)
}

#[cfg(not(feature = "page"))]
fn with_page() -> Result<bool, String> {
    Err(not_built("page"))
}

#[cfg(feature = "traces")]
fn own_jaeger() -> Result<Traces, String> {
    Ok(Traces::OwnJaeger)
}

#[cfg(not(feature = "traces"))]
fn own_jaeger() -> Result<Traces, String> {
    Err(not_built("traces"))
}

#[cfg(feature = "traces")]
fn parse_collector(url: &str) -> Result<Traces, String> {
    let is_url = reqwest::Url::parse(url)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if is_url {
        Ok(Traces::Collector(url.to_owned()))
    } else {
        Err("must be an address such as http://localhost:4318".to_owned())
    }
}

#[cfg(not(feature = "traces"))]
fn parse_collector(_: &str) -> Result<Traces, String> {
    Err(not_built("traces"))
}

fn parse_pool(word: &str) -> Result<Pool, String> {
    match Pool::BUILT.iter().find(|(name, _)| *name == word) {
        Some((_, pool)) => Ok(*pool),
        None if Pool::NAMES.contains(&word) => Err(not_built(word)),
        None => Err(format!("--pool must be one of {}", Pool::NAMES.join(", "))),
    }
}

fn parse_database(word: &str) -> Result<DatabaseName, String> {
    match word {
        "postgresql" => Ok(DatabaseName::PostgreSql),
        #[cfg(feature = "mariadb")]
        "mariadb" => Ok(DatabaseName::MariaDb),
        #[cfg(not(feature = "mariadb"))]
        "mariadb" => Err(not_built("mariadb")),
        _ => Err("must be postgresql or mariadb".to_owned()),
    }
}

fn parse_backend(word: &str) -> Result<Backend, String> {
    match word {
        "file" => Ok(Backend::File),
        #[cfg(feature = "rds-iam")]
        "rds-iam" => Ok(Backend::RdsIam),
        #[cfg(not(feature = "rds-iam"))]
        "rds-iam" => Err(not_built("rds-iam")),
        #[cfg(feature = "secrets-manager")]
        "secrets-manager" => Ok(Backend::SecretsManager),
        #[cfg(not(feature = "secrets-manager"))]
        "secrets-manager" => Err(not_built("secrets-manager")),
        #[cfg(feature = "vault")]
        "vault" => Ok(Backend::Vault),
        #[cfg(not(feature = "vault"))]
        "vault" => Err(not_built("vault")),
        _ => Err("must be file, rds-iam, secrets-manager or vault".to_owned()),
    }
}

/// Returns the error of a feature that is not enabled. `cargo xtask demo` enables those of its
/// arguments.
fn not_built(feature: &str) -> String {
    format!(
        "this demo was built without it; build it with --features {feature}, \
         or run cargo xtask demo"
    )
}
