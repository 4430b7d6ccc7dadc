//! Arguments of the command.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Checks the configuration of Claviger, and diagnoses why a login fails.
///
/// Exit codes: 0 nothing is wrong, 1 a problem was found, 2 wrong arguments.
#[derive(Parser)]
#[command(name = "claviger", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Checks the file alone: keys, values, references. Connects to nothing.
    Check(CheckArgs),
    /// Checks each step of each connection in order, and names the first cause of a failure.
    ///
    /// A connection costs one login, or two under `trust`; a rejected one is not repeated.
    Doctor(DoctorArgs),
    /// Runs a command with fresh credentials of a pool in its environment.
    ///
    /// The credentials are renewed while it runs, and released at its end. Signals reach the
    /// command. Its exit code is returned; 128 plus the number of the signal that ended it.
    Exec(ExecArgs),
    /// Shows the pools of a running service. The exit code is 1 if one does not serve.
    Status(OperatorArgs),
    /// Rotates the credentials of a provider of a running service, and waits for its pools.
    Rotate(TargetArgs),
    /// Fetches and verifies the credentials of the next rotation without serving them.
    ///
    /// Uses the file, as doctor does. With --url or CLAVIGER_OPERATOR_URL, uses a running service:
    /// POOL is then the name of a provider.
    /// New credentials are fetched, or the pending ones of the backend, and released afterwards.
    Rehearse(RehearseArgs),
}

#[derive(clap::Args)]
pub(crate) struct FileArgs {
    /// Configuration file: .toml, .yaml or .yml. Without a file, the environment is read
    /// (DATABASE_URL, …).
    #[arg(long, short, value_name = "FILE", env = "CLAVIGER_CONFIG")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
}

#[derive(clap::Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// Pools of the file. Default: all.
    #[arg(value_name = "POOL")]
    pub(crate) pools: Vec<String>,
    /// URL of an administrator of the PostgreSQL server, who reads the catalog: roles, privileges
    /// and limits. The variable keeps its password out of the process list.
    #[arg(
        long,
        value_name = "URL",
        env = "CLAVIGER_ADMIN_URL",
        hide_env_values = true
    )]
    pub(crate) admin_url: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    pub(crate) file: FileArgs,
    /// Pool whose credentials the command gets. Default: the only one of the file.
    #[arg(value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// The command and its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(clap::Args)]
pub(crate) struct OperatorArgs {
    /// Address of the service's operators' router, as `claviger-axum` serves it.
    #[arg(long, value_name = "URL", env = "CLAVIGER_OPERATOR_URL")]
    #[arg(default_value = "http://127.0.0.1:8081", hide_env_values = true)]
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(clap::Args)]
pub(crate) struct TokenArgs {
    /// File with the operator's token.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The operator's token. The variable keeps it out of the process list.
    #[arg(
        long,
        env = "CLAVIGER_OPERATOR_TOKEN",
        hide = true,
        hide_env_values = true
    )]
    pub(crate) token: Option<String>,
}

#[derive(clap::Args)]
pub(crate) struct TargetArgs {
    #[command(flatten)]
    pub(crate) operator: OperatorArgs,
    /// Name of the provider.
    #[arg(value_name = "PROVIDER")]
    pub(crate) name: String,
}

#[derive(clap::Args)]
pub(crate) struct RehearseArgs {
    #[command(flatten)]
    pub(crate) doctor: DoctorArgs,
    /// Address of a running service's operators' router.
    #[arg(
        long,
        value_name = "URL",
        env = "CLAVIGER_OPERATOR_URL",
        hide_env_values = true
    )]
    pub(crate) url: Option<String>,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
}

/// Where a command examines the credentials of the next rotation.
pub(crate) enum Rehearsal {
    ByFile(DoctorArgs),
    InService(TargetArgs),
}

impl RehearseArgs {
    /// # Errors
    /// Arguments that contradict each other.
    pub(crate) fn rehearsal(self) -> Result<Rehearsal, &'static str> {
        let Some(url) = self.url else {
            return Ok(Rehearsal::ByFile(self.doctor));
        };
        let Ok([name]) = <[String; 1]>::try_from(self.doctor.pools) else {
            return Err("with --url or CLAVIGER_OPERATOR_URL, name one provider of the service");
        };
        Ok(Rehearsal::InService(TargetArgs {
            operator: OperatorArgs {
                url,
                token: self.token,
                json: self.doctor.json,
            },
            name,
        }))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }
}
