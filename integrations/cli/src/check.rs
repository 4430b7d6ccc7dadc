//! `claviger check`: the file alone.

use std::error::Error;
use std::fmt::Display;
use std::path::Path;

use claviger_config::{Config, ConfigError};

use crate::args::FileArgs;

/// Files that are read without `--config`: the first that exists.
const DEFAULT_FILES: [&str; 3] = ["claviger.toml", "claviger.yaml", "claviger.yml"];

/// Loads the file, or the environment without one.
///
/// # Errors
/// All problems of the file.
pub(crate) fn load(args: &FileArgs) -> Result<Config, ConfigError> {
    let config = match file(args) {
        Some(path) => Config::load(path),
        None => Config::from_env(),
    };
    config.map(Config::for_tools)
}

fn file(args: &FileArgs) -> Option<&Path> {
    let default = || {
        let files = DEFAULT_FILES.iter().map(Path::new);
        files.into_iter().find(|path| path.exists())
    };
    args.config.as_deref().or_else(default)
}

/// Returns the error with the reason why the environment was read.
pub(crate) fn explained(args: &FileArgs, error: &impl Display) -> String {
    if file(args).is_some() {
        return error.to_string();
    }
    let [name, ..] = DEFAULT_FILES;
    format!("{error}\nThis folder has no {name}, and --config was not given.")
}

/// Problem of a file without pools.
pub(crate) const NOTHING: &str =
    "the file has no pools, so there is nothing to check; add one such as [pools.orders]";

/// Checks everything that does not need a connection.
///
/// # Errors
/// All problems, each with its key.
pub(crate) fn check(args: &FileArgs) -> Result<String, Box<dyn Error>> {
    let config = load(args).map_err(|error| explained(args, &error))?;
    config.check()?;
    config.check_files()?;
    let (pools, providers) = (config.pool_names().count(), config.provider_names().count());
    if pools == 0 && providers == 0 {
        return Err(NOTHING.into());
    }
    let plural = |count| if count == 1 { "" } else { "s" };
    let mut summary = format!(
        "{pools} pool{} and {providers} provider{}: no problem found",
        plural(pools),
        plural(providers)
    );
    let unchecked: Vec<_> = config.service_provider_names().collect();
    if !unchecked.is_empty() {
        let names = unchecked.join(", ");
        summary += &format!("\nnot checked, because the service adds them: {names}");
    }
    Ok(summary)
}
