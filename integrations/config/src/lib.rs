#![cfg_attr(docsrs, feature(doc_cfg))]
#![doc = include_str!("../README.md")]

mod any_provider;
#[cfg(any(
    feature = "elasticache-iam",
    feature = "rds-iam",
    feature = "secrets-manager"
))]
mod aws;
mod check;
mod config;
mod conform;
mod connection;
mod drivers;
mod error;
mod json_schema;
#[cfg_attr(
    not(any(
        feature = "bb8",
        feature = "deadpool-postgres",
        feature = "diesel-async",
        feature = "mysql",
        feature = "postgres",
        feature = "redis"
    )),
    expect(dead_code, reason = "no kind of pool is enabled")
)]
mod kinds;
mod libpq;
mod missing_files;
mod nearest;
mod origins;
mod pool_kind;
mod providers;
mod references;
#[cfg_attr(
    not(any(
        feature = "bb8",
        feature = "deadpool-postgres",
        feature = "diesel-async",
        feature = "mysql",
        feature = "postgres"
    )),
    expect(
        dead_code,
        reason = "a file may have kinds whose feature is not enabled"
    )
)]
mod resolved_pool;
mod running_pools;
#[cfg_attr(
    not(all(
        feature = "elasticache-iam",
        feature = "rds-iam",
        feature = "secrets-manager",
        feature = "vault"
    )),
    expect(
        dead_code,
        reason = "a file may have kinds whose feature is not enabled"
    )
)]
mod schema;
mod secrets_in_file;
mod source;
mod start;
mod url_settings;
mod url_text;
mod values;
mod variables;
#[cfg(feature = "vault")]
mod vault;
mod yaml;

pub use crate::any_provider::AnyProvider;
pub use crate::config::Config;
pub use crate::connection::{Backend, Connection, Engine, TlsMode};
pub use crate::error::{ConfigError, Problem};
pub use crate::running_pools::RunningPools;
pub use crate::url_text::check_url;
