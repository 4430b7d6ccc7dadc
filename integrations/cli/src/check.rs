//! `claviger check`: the file alone.

use std::path::Path;

use claviger_config::{Config, ConfigError};

use crate::args::FileArgs;

/// Loads the file, or the environment without one.
///
/// # Errors
/// All problems of the file.
pub(crate) fn load(args: &FileArgs) -> Result<Config, ConfigError> {
    let config = match &args.config {
        Some(path) => Config::load(path),
        None if Path::new(DEFAULT_FILE).exists() => Config::load(DEFAULT_FILE),
        None => Config::from_env(),
    };
    config.map(Config::for_tools)
}

/// File that is read without `--config`, if it exists.
const DEFAULT_FILE: &str = "claviger.toml";

/// Checks everything that does not need a connection.
///
/// # Errors
/// All problems, each with its key.
pub(crate) fn check(args: &FileArgs) -> Result<String, ConfigError> {
    let config = load(args)?;
    config.check()?;
    let (pools, providers) = (config.pool_names().count(), config.provider_names().count());
    let plural = |count| if count == 1 { "" } else { "s" };
    Ok(format!(
        "{pools} pool{} and {providers} provider{}: no problem found",
        plural(pools),
        plural(providers)
    ))
}
