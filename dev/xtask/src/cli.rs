//! The command line.

use std::ffi::OsString;

use claviger_servers::Server;
use lexopt::Arg::{Long, Short, Value};
use lexopt::Parser;

use crate::need;

/// The text of `--help`, also printed after an error in the command line.
pub(crate) const USAGE: &str = "\
usage: cargo xtask <command>

  demo [--seconds N] [--pool NAME] [--database NAME] [--with BACKEND] [ARGUMENT…]
      Rotates credentials under a running service, on a real server, and shows that
      no call failed, beside a plain pool. NAME of a pool is sqlx (default), deadpool,
      diesel, bb8 or redis. All arguments go to the demo; `demo -- --help` lists them.

  test [--require-all] [-- FILTER…]
      Runs every test. Missing servers are installed as root or if CI is set. Otherwise
      the tests that need them are listed and counted as skipped. Arguments after -- go
      to the test programs.
      --require-all    fails before any test runs if one would be skipped

  bench [--with secrets-manager|otel|pools] [ARGUMENT…]
      Runs the benchmarks of the core, of Secrets Manager, of the cost of telemetry or of
      the pools beside plain ones, on real servers. All further arguments go to them.

  figures [--draw]
      Runs the demo with Jaeger, and draws the pictures in docs/figures from its last
      rotation and from the measurements there and in docs/pools/comparison.md.
      --draw           draws what is there, without a run

  simulate [--seed N | --seeds N] [--days D]
      Runs the state machines of providers and pools against simulated databases,
      backends and clocks: one seed, or the first N (200), for D simulated days (30).
      Every law is checked at each step. A seed that breaks one is printed with the end
      of its trace; it repeats exactly.

  install [SERVER…]
      Installs these servers (by default all) if they are missing, and prints where each
      is. SERVER is postgresql, mariadb, pam, moto, openbao, jaeger, pgbouncer,
      prometheus or redis. The other commands install what they need.

exit status: 0 success, 1 something failed, 2 invalid arguments or a missing server
";

/// A parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Prints [`USAGE`].
    Help,
    /// Runs the demo with these arguments.
    Demo(Vec<OsString>),
    /// Runs the tests.
    Test(TestOptions),
    /// Runs the simulation with these arguments.
    Simulate(Vec<OsString>),
    /// Runs the benchmarks with these arguments.
    Bench(Vec<OsString>),
    /// Draws the pictures of the documentation, with these arguments.
    Figures(Vec<OsString>),
    /// Installs these servers.
    Install(Vec<Server>),
}

/// Options of `test`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TestOptions {
    /// Whether a skipped test is an error.
    pub(crate) require_all: bool,
    /// Filters and libtest's own flags, passed to the test programs.
    pub(crate) pass_on: Vec<OsString>,
}

/// Parses the arguments without the program's name.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Command, lexopt::Error> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let rest = if arguments.is_empty() {
        Vec::new()
    } else {
        arguments.split_off(1)
    };
    let mut parser = Parser::from_args(arguments);
    let command = match parser.next()? {
        None => return Err("a command is missing".into()),
        Some(Short('h') | Long("help")) => return Ok(Command::Help),
        Some(Value(command)) => command,
        Some(argument) => return Err(argument.unexpected()),
    };
    match command.to_str() {
        Some("help") => Ok(Command::Help),
        Some("demo") => Ok(pass_on(rest).map_or(Command::Help, Command::Demo)),
        Some("bench") => Ok(pass_on(rest).map_or(Command::Help, Command::Bench)),
        Some("figures") => Ok(pass_on(rest).map_or(Command::Help, Command::Figures)),
        Some("simulate") => Ok(pass_on(rest).map_or(Command::Help, Command::Simulate)),
        Some("test") => parse_test(rest),
        Some("install") => parse_install(rest),
        _ => Err(format!("there is no command {:?}", command.display()).into()),
    }
}

/// Returns the arguments for another program, or `None` for our own help. A leading `--` passes
/// everything on.
fn pass_on(mut arguments: Vec<OsString>) -> Option<Vec<OsString>> {
    if arguments.first().is_some_and(|first| first == "--") {
        arguments.remove(0);
        return Some(arguments);
    }
    let help = arguments
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument == "-h" || argument == "--help");
    (!help).then_some(arguments)
}

fn parse_test(mut arguments: Vec<OsString>) -> Result<Command, lexopt::Error> {
    let mut options = TestOptions::default();
    if let Some(separator) = arguments.iter().position(|argument| argument == "--") {
        options.pass_on = arguments.split_off(separator).split_off(1);
    }
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help),
            Long("require-all") => options.require_all = true,
            argument => return Err(argument.unexpected()),
        }
    }
    Ok(Command::Test(options))
}

fn parse_install(arguments: Vec<OsString>) -> Result<Command, lexopt::Error> {
    let mut servers = Vec::new();
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help),
            Value(tag) => servers.push(need::server(&tag.to_string_lossy())?),
            argument => return Err(argument.unexpected()),
        }
    }
    Ok(Command::Install(if servers.is_empty() {
        Server::ALL.to_vec()
    } else {
        servers
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    fn strings(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn all_arguments_are_passed_to_the_demo() {
        assert_eq!(parsed("demo"), Ok(Command::Demo(Vec::new())));
        assert_eq!(
            parsed("demo --seconds 10 --x"),
            Ok(Command::Demo(strings("--seconds 10 --x")))
        );
        assert_eq!(
            parsed("bench -- --quick"),
            Ok(Command::Bench(strings("--quick")))
        );
        assert_eq!(
            parsed("simulate --seed 7 --days 2"),
            Ok(Command::Simulate(strings("--seed 7 --days 2")))
        );
        assert_eq!(
            parsed("figures --draw"),
            Ok(Command::Figures(strings("--draw")))
        );
    }

    #[test]
    fn help_after_two_dashes_is_passed_on() {
        for line in [
            "--help",
            "-h",
            "help",
            "demo --help",
            "demo --seconds 1 -h",
            "test --help",
            "bench --help",
            "install --help",
        ] {
            assert_eq!(parsed(line), Ok(Command::Help), "{line}");
        }
        assert_eq!(
            parsed("demo -- --help"),
            Ok(Command::Demo(strings("--help")))
        );
        assert_eq!(
            parsed("test -- --help"),
            Ok(Command::Test(TestOptions {
                require_all: false,
                pass_on: strings("--help")
            }))
        );
    }

    #[test]
    fn filters_follow_the_flags_of_test() {
        let options = TestOptions {
            require_all: true,
            pass_on: strings("law_01 --nocapture"),
        };
        assert_eq!(
            parsed("test --require-all -- law_01 --nocapture"),
            Ok(Command::Test(options))
        );
        let filter = TestOptions {
            require_all: false,
            pass_on: strings("--require-all"),
        };
        assert_eq!(parsed("test -- --require-all"), Ok(Command::Test(filter)));
    }

    #[test]
    fn install_without_tags_installs_all_servers() {
        assert_eq!(
            parsed("install moto postgresql"),
            Ok(Command::Install(vec![Server::Moto, Server::PostgreSql]))
        );
        assert_eq!(
            parsed("install"),
            Ok(Command::Install(Server::ALL.to_vec()))
        );
    }

    #[test]
    fn unknown_arguments_are_errors() {
        for line in [
            "",
            "dance",
            "--require-all",
            "test --quick",
            "test law_01",
            "test --require-all=yes",
            "install bread",
            "install --now",
        ] {
            assert!(parsed(line).is_err(), "{line:?} was accepted");
        }
    }
}
