//! The command `claviger`.

mod args;
mod check;
mod columns;
mod doctor;
mod exec;
mod finding;
mod http;
mod operate;
mod place;
mod report;
mod secret;

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use claviger_config::Connection;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Args, Command, DoctorArgs, Rehearsal};
use crate::doctor::{Doctor, Examined};
use crate::report::Report;

/// Nothing is wrong.
const FINE: u8 = 0;
/// A problem was found.
const PROBLEM: u8 = 1;
/// Wrong arguments, as clap's own.
const USAGE: u8 = 2;

/// Longest wait for lookups of hosts that still run at the end.
const SHUTDOWN: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return ExitCode::from(complain(&error, PROBLEM)),
    };
    let code = runtime.block_on(run(args));
    runtime.shutdown_timeout(SHUTDOWN);
    ExitCode::from(code)
}

/// Runs the command and returns its exit code.
async fn run(args: Args) -> u8 {
    match args.command {
        Command::Check(args) => match check::check(&args.file) {
            Ok(summary) => print(&summary, FINE),
            Err(error) => complain(&error, PROBLEM),
        },
        Command::Doctor(args) => diagnose(args, Examined::Current).await,
        Command::Exec(args) => exec::exec(args).await,
        Command::Status(args) => operate::status(&args).await,
        Command::Rotate(args) => operate::operate("rotate", "provider", &args).await,
        Command::Rehearse(args) => match args.rehearsal() {
            Ok(Rehearsal::ByFile(args)) => diagnose(args, Examined::Next).await,
            Ok(Rehearsal::InService(args)) => operate::operate("rehearse", "provider", &args).await,
            Err(problem) => complain(&problem, USAGE),
        },
    }
}

async fn diagnose(args: DoctorArgs, examined: Examined) -> u8 {
    let admin = args.admin_url.as_deref().map(doctor::parse_url).transpose();
    let admin = match admin {
        Ok(admin) => admin,
        Err(problem) => return complain(&problem, USAGE),
    };
    let connections = match check::load(&args.file) {
        Ok(config) => config.connections().await,
        Err(error) => Err(error),
    };
    let mut connections = match connections {
        Ok(connections) => connections,
        Err(error) if args.json => {
            let problems = error.problems().iter();
            let problems = problems.map(|problem| (&*problem.key, &*problem.message));
            return print(&report::json_of_problems(problems), PROBLEM);
        }
        Err(error) => return complain(&check::explained(&args.file, &error), PROBLEM),
    };
    if connections.is_empty() {
        return match args.json {
            true => print(&report::json_of_problems([("", check::NOTHING)]), PROBLEM),
            false => complain(&check::NOTHING, PROBLEM),
        };
    }
    if !args.pools.is_empty() {
        let known = |name: &String| connections.iter().any(|known| known.name() == name);
        if let Some(unknown) = args.pools.iter().find(|name| !known(name)) {
            let names = names(&connections);
            return complain(
                &format!("no pool {unknown:?}; the pools are {names}"),
                USAGE,
            );
        }
        connections.retain(|connection| args.pools.iter().any(|name| name == connection.name()));
    }
    let report = match examine(Doctor::new(admin, examined), &connections).await {
        Ok(report) => report,
        Err(code) => return code,
    };
    let code = if report.problems() == 0 {
        FINE
    } else {
        PROBLEM
    };
    let text = if args.json {
        report.json()
    } else {
        report.table()
    };
    print(text.trim_end(), code)
}

/// Examines the connections and releases their leases, after SIGINT and SIGTERM as well.
///
/// # Errors
/// The exit code without a report.
async fn examine(mut doctor: Doctor, connections: &[Connection]) -> Result<Report, u8> {
    let (mut interrupt, mut terminate) = match (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) {
        (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
        (Err(error), _) | (_, Err(error)) => return Err(complain(&error, PROBLEM)),
    };
    let mut ended_by = async || {
        tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = terminate.recv() => SignalKind::terminate(),
        }
    };
    let examined = tokio::select! {
        report = doctor.examine(connections) => Ok(report),
        signal = ended_by() => Err(signal),
    };
    // A second signal ends the command before the leases are released.
    tokio::select! {
        () = doctor.close() => {}
        _ = ended_by() => {}
    }
    examined.map_err(|signal| exec::code_of_signal(signal.as_raw_value()))
}

/// Returns the names of the pools, for a message.
fn names(connections: &[Connection]) -> String {
    let names: Vec<_> = connections.iter().map(Connection::name).collect();
    names.join(", ")
}

/// Prints the result. A closed pipe is no error of the command.
fn print(text: &str, code: u8) -> u8 {
    let _ = writeln!(std::io::stdout(), "{text}");
    code
}

/// Prints an error.
fn complain(error: &dyn Display, code: u8) -> u8 {
    let _ = writeln!(std::io::stderr(), "claviger: {error}");
    code
}
