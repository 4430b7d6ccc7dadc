//! `cargo xtask demo`.

use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

use claviger_servers::Server;

use crate::{CANNOT_START, cargo, provide};

/// Becomes the demo, in the debug profile: the first build is what a visitor waits for.
/// So it is built with what its arguments ask for, and no more.
pub(crate) fn run(arguments: &[OsString]) -> Result<ExitCode, Box<dyn Error>> {
    let scenario = match Scenario::of(arguments) {
        Ok(scenario) => scenario,
        Err(problem) => {
            eprintln!("error: {problem}");
            return Ok(ExitCode::from(CANNOT_START));
        }
    };
    if !provide::provide(scenario.servers).is_empty() {
        return Ok(ExitCode::from(CANNOT_START));
    }
    let mut words = ["run", "--package", "claviger-demo"]
        .map(OsString::from)
        .to_vec();
    for feature in scenario.features {
        words.extend(["--features", feature].map(OsString::from));
    }
    words.push("--".into());
    match cargo::become_cargo(words.iter().chain(arguments))? {}
}

/// What the demo's arguments ask for. What decides on what is built is judged here, before anything
/// is; the rest by the demo itself.
#[derive(Debug, PartialEq, Eq)]
struct Scenario {
    features: BTreeSet<&'static str>,
    servers: BTreeSet<Server>,
}

impl Scenario {
    fn of(arguments: &[OsString]) -> Result<Self, String> {
        let mut scenario = Self {
            features: BTreeSet::new(),
            servers: BTreeSet::new(),
        };
        match value_of("--database", arguments) {
            None | Some("postgresql") => drop(scenario.servers.insert(Server::PostgreSql)),
            Some("mariadb") => scenario.add("mariadb", Server::MariaDb),
            Some(other) => {
                return Err(format!(
                    "--database {other}: there are postgresql and mariadb"
                ));
            }
        }
        match value_of("--with", arguments) {
            None | Some("file") => {}
            Some("rds-iam") => scenario.add("rds-iam", Server::Pam),
            Some("secrets-manager") => scenario.add("secrets-manager", Server::Moto),
            Some("vault") => scenario.add("vault", Server::OpenBao),
            Some(other) => {
                return Err(format!(
                    "--with {other}: there are file, rds-iam, secrets-manager and vault"
                ));
            }
        }
        // One of our own, or one that the user has.
        if arguments.iter().any(|argument| argument == "--jaeger") {
            scenario.add("traces", Server::Jaeger);
        }
        if value_of("--otlp", arguments).is_some() {
            scenario.features.insert("traces");
        }
        Ok(scenario)
    }

    fn add(&mut self, feature: &'static str, server: Server) {
        self.features.insert(feature);
        self.servers.insert(server);
    }
}

/// The value behind `--name value` or `--name=value`.
fn value_of<'a>(name: &str, arguments: &'a [OsString]) -> Option<&'a str> {
    let mut words = arguments
        .iter()
        .map(|argument| argument.to_str().unwrap_or_default());
    let rest = words.find_map(|word| {
        word.strip_prefix(name)
            .filter(|rest| rest.is_empty() || rest.starts_with('='))
    })?;
    rest.strip_prefix('=').or_else(|| words.next())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    fn judged(line: &str) -> Result<Scenario, String> {
        Scenario::of(
            &line
                .split_whitespace()
                .map(OsString::from)
                .collect::<Vec<_>>(),
        )
    }

    fn scenario(line: &str) -> Scenario {
        judged(line).expect("it can be right")
    }

    #[test]
    fn the_plain_demo_builds_no_more_than_it_needs() {
        let plain = Scenario {
            features: BTreeSet::new(),
            servers: BTreeSet::from([Server::PostgreSql]),
        };
        for line in [
            "",
            "--seconds 10",
            "--with file",
            "--database postgresql",
            "--help",
        ] {
            assert_eq!(scenario(line), plain, "{line}");
        }
    }

    #[test]
    fn a_scene_that_is_not_there_is_said_before_anything_is_built() {
        assert!(
            judged("--with dance")
                .is_err_and(|said| said.contains("dance") && said.contains("rds-iam"))
        );
        assert!(
            judged("--database=oracle")
                .is_err_and(|said| said.contains("oracle") && said.contains("mariadb"))
        );
    }

    #[test]
    fn what_is_asked_for_is_built_and_started() {
        for line in [
            "--with rds-iam --database mariadb",
            "--seconds 9 --database=mariadb --with=rds-iam",
        ] {
            let expected = Scenario {
                features: BTreeSet::from(["mariadb", "rds-iam"]),
                servers: BTreeSet::from([Server::MariaDb, Server::Pam]),
            };
            assert_eq!(scenario(line), expected, "{line}");
        }
        assert_eq!(
            scenario("--with secrets-manager").servers,
            BTreeSet::from([Server::PostgreSql, Server::Moto])
        );
        let traced = Scenario {
            features: BTreeSet::from(["traces"]),
            servers: BTreeSet::from([Server::PostgreSql, Server::Jaeger]),
        };
        assert_eq!(scenario("--jaeger --seconds 5"), traced);
        let sent = Scenario {
            servers: BTreeSet::from([Server::PostgreSql]),
            ..traced
        };
        assert_eq!(scenario("--otlp http://localhost:4318"), sent);
        assert_eq!(
            scenario("--with vault").servers,
            BTreeSet::from([Server::PostgreSql, Server::OpenBao])
        );
    }
}
