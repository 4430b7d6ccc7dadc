//! `cargo xtask bench`.

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

use claviger_servers::Server;

use crate::{CANNOT_START, cargo, provide};

/// A benchmark and the servers that it needs.
#[derive(Debug, PartialEq, Eq)]
struct Bench {
    package: &'static str,
    target: &'static str,
    needs: &'static [Server],
}

const CORE: Bench = Bench {
    package: "claviger",
    target: "core",
    needs: &[Server::PostgreSql],
};
const SECRETS_MANAGER: Bench = Bench {
    package: "claviger-secrets-manager",
    target: "rotation_window",
    needs: &[Server::PostgreSql, Server::Moto],
};
const OTEL: Bench = Bench {
    package: "claviger-otel",
    target: "cost",
    needs: &[Server::PostgreSql, Server::Jaeger],
};
const POOLS: Bench = Bench {
    package: "claviger-pool-bench",
    target: "scenarios",
    needs: &[Server::PostgreSql, Server::Redis, Server::Moto],
};

/// Replaces this process with the benchmark.
pub(crate) fn run_benchmark(arguments: &[OsString]) -> Result<ExitCode, Box<dyn Error>> {
    let (bench, rest) = choose(arguments)?;
    if !provide::install_missing(bench.needs.iter().copied()).is_empty() {
        return Ok(ExitCode::from(CANNOT_START));
    }
    let words = [
        "bench",
        "--package",
        bench.package,
        "--bench",
        bench.target,
        "--",
    ]
    .map(OsString::from);
    match cargo::become_cargo(words.iter().chain(rest))? {}
}

/// Returns the core's benchmark, or that of `--with`; and the remaining arguments.
fn choose(arguments: &[OsString]) -> Result<(Bench, &[OsString]), String> {
    match arguments {
        [with, target, rest @ ..] if with == "--with" && target == "secrets-manager" => {
            Ok((SECRETS_MANAGER, rest))
        }
        [with, target, rest @ ..] if with == "--with" && target == "otel" => Ok((OTEL, rest)),
        [with, target, rest @ ..] if with == "--with" && target == "pools" => Ok((POOLS, rest)),
        [with, ..] if with == "--with" => {
            Err("--with must be secrets-manager, otel or pools".to_owned())
        }
        rest => Ok((CORE, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_benchmark_is_chosen_and_other_arguments_are_passed_on() {
        let words = |line: &str| {
            line.split_whitespace()
                .map(OsString::from)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            choose(&words("query")),
            Ok((CORE, words("query").as_slice()))
        );
        assert_eq!(
            choose(&words("--with secrets-manager window")),
            Ok((SECRETS_MANAGER, words("window").as_slice()))
        );
        assert_eq!(choose(&words("--with otel")), Ok((OTEL, [].as_slice())));
        assert_eq!(
            choose(&words("--with pools redis")),
            Ok((POOLS, words("redis").as_slice()))
        );
        assert!(choose(&words("--with vault")).is_err());
        assert!(choose(&words("--with")).is_err());
    }
}
