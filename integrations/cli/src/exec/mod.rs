//! `claviger exec`: a command with fresh credentials in its environment.

mod environment;
mod keeper;
mod signals;

use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use claviger::{Credentials, Supervisor};
use claviger_config::{AnyProvider, Connection, TlsMode};
use rustix::process::{Pid, kill_process};
use tokio::process::{Child, Command};

use crate::args::ExecArgs;
use crate::{USAGE, check, complain, names};
use keeper::Keeper;
use signals::{Received, Signals};

/// The command was not started because there are no credentials. `env` and `docker run` have the
/// same code for their own failures.
const NOT_STARTED: u8 = 125;
/// The program cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// The program was not found.
const NOT_FOUND: u8 = 127;
/// Added to the number of the signal that ended the command.
const BY_SIGNAL: i32 = 128;
/// Longest time for the release of the lease.
const RELEASE: Duration = Duration::from_secs(10);

/// Runs the command. Returns its exit code.
pub(crate) async fn exec(args: ExecArgs) -> u8 {
    let connections = match check::load(&args.file) {
        Ok(config) => config.connections().await,
        Err(error) => Err(error),
    };
    let connections = match connections {
        Ok(connections) => connections,
        Err(error) => return complain(&check::explained(&args.file, &error), NOT_STARTED),
    };
    let connection = match choose(&connections, args.pool.as_deref()) {
        Ok(connection) => connection,
        Err(problem) => return complain(&problem, USAGE),
    };
    let provider = match connection.provider() {
        Ok(provider) => provider.clone(),
        Err(error) => return complain(error, NOT_STARTED),
    };
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return complain(&error, NOT_STARTED),
    };
    run(connection, provider, &args, &mut signals).await
}

/// Returns the pool of this name, or the only one.
fn choose<'c>(connections: &'c [Connection], name: Option<&str>) -> Result<&'c Connection, String> {
    match (name, connections) {
        (None, [only]) => Ok(only),
        (None, _) => Err(format!(
            "the file has several pools; give one of {} before `--`",
            names(connections)
        )),
        (Some(name), _) => connections
            .iter()
            .find(|connection| connection.name() == name)
            .ok_or_else(|| format!("no pool {name:?}; the pools are {}", names(connections))),
    }
}

async fn run(
    connection: &Connection,
    provider: AnyProvider,
    args: &ExecArgs,
    signals: &mut Signals,
) -> u8 {
    // The supervisor renews the lease while the command runs.
    let supervisor = Supervisor::start();
    let keeper = Keeper::new(provider);
    let name = connection.provider_name();
    // Kept until the end, because dropping it unregisters the provider. Then nothing would wait for
    // a running fetch, or release its lease.
    let mut adding = pin!(supervisor.add_provider(&name, keeper.clone()));
    let added = tokio::select! {
        added = &mut adding => Ok(added),
        received = signals.next() => Err(received),
    };
    let is_interrupted = added.is_err();
    let code = match (added, keeper.credentials()) {
        (Err(received), _) => code_of_signal(received.signal.as_raw()),
        (Ok(Ok(_)), Some(credentials)) => run_with(connection, &credentials, args, signals).await,
        (Ok(Ok(_)), None) => complain(&"the provider returned no credentials", NOT_STARTED),
        (Ok(Err(error)), _) => complain(&error, NOT_STARTED),
    };
    let end = async {
        // Before the shutdown, which then releases the lease of a fetch that ends late.
        keeper.end().await;
        supervisor.shutdown(RELEASE).await;
    };
    tokio::select! {
        () = end => {}
        // A second signal ends the command without waiting for the fetch and the release.
        _ = signals.next(), if is_interrupted => {}
    }
    code
}

async fn run_with(
    connection: &Connection,
    credentials: &Credentials,
    args: &ExecArgs,
    signals: &mut Signals,
) -> u8 {
    let Some((program, arguments)) = args.command.split_first() else {
        return complain(&"give a command after `--`", USAGE);
    };
    if credentials.is_token() && !is_verified(connection) {
        let problem = "ssl_mode does not verify the server, and the client of the command would \
                       send the token to any at this address; set ssl_mode = \"verify-full\"";
        return complain(&problem, NOT_STARTED);
    }
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if environment::leads_elsewhere(connection.engine(), &name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .envs(environment::variables(connection, credentials))
        .env_remove("CLAVIGER_ADMIN_URL")
        .env_remove("CLAVIGER_OPERATOR_TOKEN");
    // The terminal has sent it to this process alone.
    if let Some(received) = signals.pending() {
        return code_of_signal(received.signal.as_raw());
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let code = match error.kind() {
                std::io::ErrorKind::NotFound => NOT_FOUND,
                _ => NOT_EXECUTABLE,
            };
            return complain(&format!("{}: {error}", program.to_string_lossy()), code);
        }
    };
    loop {
        tokio::select! {
            status = child.wait() => {
                return match status {
                    Ok(status) => code_of(status),
                    Err(error) => complain(&error, NOT_STARTED),
                };
            }
            received = signals.next() => forward(&child, received),
        }
    }
}

fn is_verified(connection: &Connection) -> bool {
    matches!(
        connection.tls_mode(),
        TlsMode::VerifyCa | TlsMode::VerifyFull
    )
}

fn forward(child: &Child, received: Received) {
    if received.is_of_terminal {
        return;
    }
    let id = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    if let Some(id) = id {
        // The command may have ended meanwhile.
        let _ = kill_process(id, received.signal);
    }
}

/// Returns the exit code of the command, or 128 and the number of the signal that ended it.
fn code_of(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(NOT_STARTED),
        (None, Some(signal)) => code_of_signal(signal),
        (None, None) => NOT_STARTED,
    }
}

/// Returns 128 and the number of the signal.
pub(crate) fn code_of_signal(signal: i32) -> u8 {
    u8::try_from(BY_SIGNAL + signal).unwrap_or(NOT_STARTED)
}
