//! Decides which tests run before any does.
//!
//! libtest cannot skip: a test that finds no server and returns counts as passed. Therefore a
//! target whose server is missing is not run at all.

use std::collections::BTreeSet;

use claviger_servers::Server;

use crate::test_file::TestFile;

/// The targets to run and to skip.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The targets that cannot run on this machine.
    pub(crate) skipped: Vec<Skipped>,
    /// The arguments of each call of `cargo`, in order.
    pub(crate) runs: Vec<Vec<String>>,
}

/// A target that is skipped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Skipped {
    /// The target.
    pub(crate) file: TestFile,
    /// The missing servers that it needs.
    pub(crate) missing: BTreeSet<Server>,
}

impl Skipped {
    /// Returns the line that reports it.
    pub(crate) fn line(&self) -> String {
        let names: Vec<_> = self.missing.iter().map(|server| server.name()).collect();
        let commands: Vec<_> = self
            .missing
            .iter()
            .map(|server| server.install_command())
            .collect();
        format!(
            "skipped: {} {} (needs {}; install it with: {})",
            self.file.package,
            self.file.target,
            names.join(" and "),
            commands.join(" && ")
        )
    }
}

/// Skips every file that needs one of the missing servers.
pub(crate) fn plan(files: Vec<TestFile>, missing: &BTreeSet<Server>) -> Plan {
    let (skipped, kept): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|file| file.needs.iter().any(|need| missing.contains(need)));
    let runs = runs(&skipped, &kept);
    let skipped = skipped.into_iter().map(|file| Skipped {
        missing: file
            .needs
            .iter()
            .copied()
            .filter(|need| missing.contains(need))
            .collect(),
        file,
    });
    Plan {
        skipped: skipped.collect(),
        runs,
    }
}

/// The package with a feature that its tests need and the plain demo does not build.
const DEMO: &str = "claviger-demo";
const DEMO_FEATURE: &str = "traces";

fn runs(skipped: &[TestFile], kept: &[TestFile]) -> Vec<Vec<String>> {
    let feature = format!("{DEMO}/{DEMO_FEATURE}");
    let whole = [
        "test",
        "--workspace",
        "--features",
        &feature,
        "--no-fail-fast",
    ];
    if skipped.is_empty() {
        return vec![strings(&whole)];
    }
    // cargo cannot exclude a target, and its `--test NAME` applies to all packages. A target with
    // the same name as a skipped one therefore gets a call of its own, in its package.
    let mut all = strings(&whole);
    all.extend(strings(&["--lib", "--bins", "--examples"]));
    let mut alone = Vec::new();
    for file in kept {
        if skipped.iter().any(|out| out.target == file.target) {
            let mut one = strings(&[
                "test",
                "--no-fail-fast",
                "--package",
                &file.package,
                "--test",
                &file.target,
            ]);
            if file.package == DEMO {
                one.extend(strings(&["--features", DEMO_FEATURE]));
            }
            alone.push(one);
        } else {
            all.extend(strings(&["--test", &file.target]));
        }
    }
    let mut docs = strings(&whole);
    docs.push("--doc".to_owned());
    [vec![all], alone, vec![docs]].concat()
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(package: &str, target: &str, needs: &[Server]) -> TestFile {
        TestFile {
            package: package.into(),
            target: target.into(),
            needs: needs.to_vec(),
            tests: 1,
        }
    }

    fn files() -> Vec<TestFile> {
        vec![
            file("claviger", "law_01_no_query_is_lost", &[Server::PostgreSql]),
            file("claviger", "law_03", &[]),
            file("servers", "programs", &[]),
        ]
    }

    fn lines(plan: &Plan) -> Vec<String> {
        plan.runs.iter().map(|run| run.join(" ")).collect()
    }

    fn no_postgres() -> BTreeSet<Server> {
        BTreeSet::from([Server::PostgreSql])
    }

    #[test]
    fn with_all_servers_one_call_runs_everything() {
        let plan = plan(files(), &BTreeSet::new());
        assert_eq!(plan.skipped, []);
        assert_eq!(
            lines(&plan),
            ["test --workspace --features claviger-demo/traces --no-fail-fast"]
        );
    }

    #[test]
    fn without_a_server_its_targets_are_skipped_and_reported() {
        let plan = plan(files(), &no_postgres());
        let named: Vec<_> = plan.skipped.iter().map(Skipped::line).collect();
        assert_eq!(
            named,
            [format!(
                "skipped: claviger law_01_no_query_is_lost (needs PostgreSQL; install it with: {})",
                Server::PostgreSql.install_command()
            )]
        );
        assert_eq!(
            lines(&plan),
            [
                "test --workspace --features claviger-demo/traces --no-fail-fast --lib --bins --examples --test law_03 --test programs",
                "test --workspace --features claviger-demo/traces --no-fail-fast --doc",
            ]
        );
    }

    #[test]
    fn only_missing_servers_are_reported() {
        let files = || {
            vec![
                file("claviger", "rotation", &[Server::PostgreSql, Server::Moto]),
                file("servers", "moto", &[Server::Moto]),
            ]
        };
        let named = |missing| {
            plan(files(), &BTreeSet::from_iter(missing))
                .skipped
                .iter()
                .map(Skipped::line)
                .collect::<Vec<_>>()
        };
        let (postgres, moto) = (
            Server::PostgreSql.install_command(),
            Server::Moto.install_command(),
        );
        assert_eq!(
            named(vec![Server::PostgreSql]),
            [format!(
                "skipped: claviger rotation (needs PostgreSQL; install it with: {postgres})"
            )]
        );
        assert_eq!(
            named(vec![Server::PostgreSql, Server::Moto]),
            [
                format!(
                    "skipped: claviger rotation (needs PostgreSQL and moto; install it with: {postgres} && {moto})"
                ),
                format!("skipped: servers moto (needs moto; install it with: {moto})"),
            ]
        );
    }

    #[test]
    fn a_target_named_as_a_skipped_one_runs_in_its_package() {
        let files = vec![
            file("claviger", "tls", &[Server::PostgreSql]),
            file("servers", "tls", &[]),
        ];
        let plan = plan(files, &no_postgres());
        assert_eq!(
            lines(&plan),
            [
                "test --workspace --features claviger-demo/traces --no-fail-fast --lib --bins --examples",
                "test --no-fail-fast --package servers --test tls",
                "test --workspace --features claviger-demo/traces --no-fail-fast --doc",
            ]
        );
    }

    #[test]
    fn a_missing_server_without_targets_changes_nothing() {
        let plan = plan(vec![file("claviger", "law_03", &[])], &no_postgres());
        assert_eq!(
            lines(&plan),
            ["test --workspace --features claviger-demo/traces --no-fail-fast"]
        );
    }
}
