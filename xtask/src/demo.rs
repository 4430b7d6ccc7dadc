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
    let scene = match Scene::of(arguments) {
        Ok(scene) => scene,
        Err(problem) => {
            eprintln!("error: {problem}");
            return Ok(ExitCode::from(CANNOT_START));
        }
    };
    if !provide::provide(scene.servers).is_empty() {
        return Ok(ExitCode::from(CANNOT_START));
    }
    let mut words = ["run", "--package", "claviger-demo"].map(OsString::from).to_vec();
    for feature in scene.features {
        words.extend(["--features", feature].map(OsString::from));
    }
    words.push("--".into());
    match cargo::become_cargo(words.iter().chain(arguments))? {}
}

/// What the demo's arguments ask for. What decides on what is built is judged here, before anything is; the rest by the demo itself.
#[derive(Debug, PartialEq, Eq)]
struct Scene {
    features: BTreeSet<&'static str>,
    servers: BTreeSet<Server>,
}

impl Scene {
    fn of(arguments: &[OsString]) -> Result<Self, String> {
        let mut scene = Self { features: BTreeSet::new(), servers: BTreeSet::new() };
        match value_of("--database", arguments) {
            None | Some("postgresql") => drop(scene.servers.insert(Server::PostgreSql)),
            Some("mariadb") => scene.add("mariadb", Server::MariaDb),
            Some(other) => return Err(format!("--database {other}: there are postgresql and mariadb")),
        }
        match value_of("--with", arguments) {
            None | Some("file") => {}
            Some("rds-iam") => scene.add("rds-iam", Server::Pam),
            Some("secrets-manager") => scene.add("secrets-manager", Server::Moto),
            Some("vault") => scene.add("vault", Server::OpenBao),
            Some(other) => return Err(format!("--with {other}: there are file, rds-iam, secrets-manager and vault")),
        }
        // One of our own, or one that the user has.
        if arguments.iter().any(|argument| argument == "--jaeger") {
            scene.add("traces", Server::Jaeger);
        }
        if value_of("--otlp", arguments).is_some() {
            scene.features.insert("traces");
        }
        Ok(scene)
    }

    fn add(&mut self, feature: &'static str, server: Server) {
        self.features.insert(feature);
        self.servers.insert(server);
    }
}

/// The value behind `--name value` or `--name=value`.
fn value_of<'a>(name: &str, arguments: &'a [OsString]) -> Option<&'a str> {
    let mut words = arguments.iter().map(|argument| argument.to_str().unwrap_or_default());
    let rest = words.find_map(|word| word.strip_prefix(name).filter(|rest| rest.is_empty() || rest.starts_with('=')))?;
    rest.strip_prefix('=').or_else(|| words.next())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    fn judged(line: &str) -> Result<Scene, String> {
        Scene::of(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    fn scene(line: &str) -> Scene {
        judged(line).expect("it can be right")
    }

    #[test]
    fn the_plain_demo_builds_no_more_than_it_needs() {
        let plain = Scene { features: BTreeSet::new(), servers: BTreeSet::from([Server::PostgreSql]) };
        for line in ["", "--seconds 10", "--with file", "--database postgresql", "--help"] {
            assert_eq!(scene(line), plain, "{line}");
        }
    }

    #[test]
    fn a_scene_that_is_not_there_is_said_before_anything_is_built() {
        assert!(judged("--with dance").is_err_and(|said| said.contains("dance") && said.contains("rds-iam")));
        assert!(judged("--database=oracle").is_err_and(|said| said.contains("oracle") && said.contains("mariadb")));
    }

    #[test]
    fn what_is_asked_for_is_built_and_started() {
        for line in ["--with rds-iam --database mariadb", "--seconds 9 --database=mariadb --with=rds-iam"] {
            let expected =
                Scene { features: BTreeSet::from(["mariadb", "rds-iam"]), servers: BTreeSet::from([Server::MariaDb, Server::Pam]) };
            assert_eq!(scene(line), expected, "{line}");
        }
        assert_eq!(scene("--with secrets-manager").servers, BTreeSet::from([Server::PostgreSql, Server::Moto]));
        let traced = Scene { features: BTreeSet::from(["traces"]), servers: BTreeSet::from([Server::PostgreSql, Server::Jaeger]) };
        assert_eq!(scene("--jaeger --seconds 5"), traced);
        let sent = Scene { servers: BTreeSet::from([Server::PostgreSql]), ..traced };
        assert_eq!(scene("--otlp http://localhost:4318"), sent);
        assert_eq!(scene("--with vault").servers, BTreeSet::from([Server::PostgreSql, Server::OpenBao]));
    }
}
