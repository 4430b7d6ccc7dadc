//! `cargo xtask demo`.

use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

use claviger_servers::Server;

use crate::{CANNOT_START, cargo, provide};

/// Replaces this process with the demo. The debug profile and only the features that the arguments
/// need keep the first build short.
pub(crate) fn run_demo(arguments: &[OsString]) -> Result<ExitCode, Box<dyn Error>> {
    let scenario = match Scenario::parse(arguments) {
        Ok(scenario) => scenario,
        Err(problem) => {
            eprintln!("error: {problem}");
            return Ok(ExitCode::from(CANNOT_START));
        }
    };
    if !provide::install_missing(scenario.servers).is_empty() {
        return Ok(ExitCode::from(CANNOT_START));
    }
    let mut words = ["run", "--package", "claviger-demo", "--no-default-features"]
        .map(OsString::from)
        .to_vec();
    for feature in scenario.features {
        words.extend(["--features", feature].map(OsString::from));
    }
    words.push("--".into());
    match cargo::become_cargo(words.iter().chain(arguments))? {}
}

/// Kinds of pools, which are the demo's features, and their servers.
const POOLS: [(&str, Server); 5] = [
    ("sqlx", Server::PostgreSql),
    ("deadpool", Server::PostgreSql),
    ("diesel", Server::PostgreSql),
    ("bb8", Server::PostgreSql),
    ("redis", Server::Redis),
];

/// The scenario in the demo's arguments. Only what determines the build is checked here; the demo
/// checks the rest.
#[derive(Debug, PartialEq, Eq)]
struct Scenario {
    features: BTreeSet<&'static str>,
    servers: BTreeSet<Server>,
}

impl Scenario {
    fn parse(arguments: &[OsString]) -> Result<Self, String> {
        let mut scenario = Self {
            features: BTreeSet::new(),
            servers: BTreeSet::new(),
        };
        let pool = value_of("--pool", arguments).unwrap_or("sqlx");
        let Some(&(feature, server)) = POOLS.iter().find(|(name, _)| *name == pool) else {
            let names: Vec<_> = POOLS.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "--pool {pool}: must be one of {}",
                names.join(", ")
            ));
        };
        if pool == "sqlx" {
            scenario.features.insert(feature);
            scenario.parse_database(arguments)?;
        } else {
            scenario.add(feature, server);
            for (name, default) in [("--database", None), ("--with", Some("file"))] {
                let value = value_of(name, arguments);
                if let Some(value) = value.filter(|_| value != default) {
                    return Err(format!("{name} {value}: only with --pool sqlx, not {pool}"));
                }
            }
        }
        if arguments.iter().any(|argument| argument == "--page") {
            scenario.features.insert("page");
        }
        // `--jaeger` starts a collector; `--otlp` names the user's.
        if arguments.iter().any(|argument| argument == "--jaeger") {
            scenario.add("traces", Server::Jaeger);
        }
        if value_of("--otlp", arguments).is_some() {
            scenario.features.insert("traces");
        }
        Ok(scenario)
    }

    /// Parses what only sqlx's pools have: other databases, and other backends of credentials.
    fn parse_database(&mut self, arguments: &[OsString]) -> Result<(), String> {
        match value_of("--database", arguments) {
            None | Some("postgresql") => drop(self.servers.insert(Server::PostgreSql)),
            Some("mariadb") => self.add("mariadb", Server::MariaDb),
            Some(other) => {
                return Err(format!("--database {other}: must be postgresql or mariadb"));
            }
        }
        match value_of("--with", arguments) {
            None | Some("file") => {}
            Some("rds-iam") => self.add("rds-iam", Server::Pam),
            Some("secrets-manager") => self.add("secrets-manager", Server::Moto),
            Some("vault") => self.add("vault", Server::OpenBao),
            Some(other) => {
                return Err(format!(
                    "--with {other}: must be file, rds-iam, secrets-manager or vault"
                ));
            }
        }
        Ok(())
    }

    fn add(&mut self, feature: &'static str, server: Server) {
        self.features.insert(feature);
        self.servers.insert(server);
    }
}

/// Returns the value of `--name value` or `--name=value`.
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

    fn parsed(line: &str) -> Result<Scenario, String> {
        Scenario::parse(
            &line
                .split_whitespace()
                .map(OsString::from)
                .collect::<Vec<_>>(),
        )
    }

    fn scenario(line: &str) -> Scenario {
        parsed(line).expect("the arguments are valid")
    }

    #[test]
    fn the_plain_demo_builds_sqlx_alone() {
        let plain = Scenario {
            features: BTreeSet::from(["sqlx"]),
            servers: BTreeSet::from([Server::PostgreSql]),
        };
        for line in [
            "",
            "--seconds 10",
            "--with file",
            "--database postgresql",
            "--pool sqlx",
            "--help",
        ] {
            assert_eq!(scenario(line), plain, "{line}");
        }
    }

    #[test]
    fn each_pool_is_built_alone_on_its_server() {
        for (pool, server) in POOLS {
            let expected = Scenario {
                features: BTreeSet::from([pool]),
                servers: BTreeSet::from([server]),
            };
            assert_eq!(scenario(&format!("--pool {pool}")), expected);
            assert_eq!(scenario(&format!("--with=file --pool={pool}")), expected);
        }
        assert!(scenario("--pool bb8 --jaeger").features.contains("traces"));
    }

    #[test]
    fn an_unknown_pool_is_an_error_that_names_the_others() {
        assert_eq!(
            parsed("--pool mongodb"),
            Err("--pool mongodb: must be one of sqlx, deadpool, diesel, bb8, redis".to_owned())
        );
    }

    #[test]
    fn other_databases_and_backends_need_sqlx() {
        assert_eq!(
            parsed("--pool redis --database mariadb"),
            Err("--database mariadb: only with --pool sqlx, not redis".to_owned())
        );
        assert!(parsed("--with vault --pool bb8").is_err());
    }

    #[test]
    fn an_unknown_scenario_is_an_error_before_the_build() {
        assert!(
            parsed("--with dance")
                .is_err_and(|message| message.contains("dance") && message.contains("rds-iam"))
        );
        assert!(
            parsed("--database=oracle")
                .is_err_and(|message| message.contains("oracle") && message.contains("mariadb"))
        );
    }

    #[test]
    fn arguments_determine_features_and_servers() {
        for line in [
            "--with rds-iam --database mariadb",
            "--seconds 9 --database=mariadb --with=rds-iam",
        ] {
            let expected = Scenario {
                features: BTreeSet::from(["mariadb", "rds-iam", "sqlx"]),
                servers: BTreeSet::from([Server::MariaDb, Server::Pam]),
            };
            assert_eq!(scenario(line), expected, "{line}");
        }
        assert_eq!(
            scenario("--with secrets-manager").servers,
            BTreeSet::from([Server::PostgreSql, Server::Moto])
        );
        let traced = Scenario {
            features: BTreeSet::from(["sqlx", "traces"]),
            servers: BTreeSet::from([Server::PostgreSql, Server::Jaeger]),
        };
        assert_eq!(scenario("--jaeger --seconds 5"), traced);
        let page = BTreeSet::from(["bb8", "page"]);
        assert_eq!(scenario("--page --pool bb8").features, page);
        let exported = Scenario {
            servers: BTreeSet::from([Server::PostgreSql]),
            ..traced
        };
        assert_eq!(scenario("--otlp http://localhost:4318"), exported);
        assert_eq!(
            scenario("--with vault").servers,
            BTreeSet::from([Server::PostgreSql, Server::OpenBao])
        );
    }
}
