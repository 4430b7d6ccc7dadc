//! Deciding, before anything runs, what runs and what is left out.
//!
//! libtest cannot skip: a test that finds no server and returns counts as passed. So a
//! target whose server is missing is not run at all.

use std::collections::BTreeSet;

use claviger_servers::Server;

use crate::test_file::TestFile;

/// What will happen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The targets that this machine cannot show.
    pub(crate) left_out: Vec<LeftOut>,
    /// The arguments of each `cargo` to run, one after the other.
    pub(crate) runs: Vec<Vec<String>>,
}

/// A target that will not run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// The target.
    pub(crate) file: TestFile,
    /// The servers that it needs and that are not there.
    pub(crate) missing: BTreeSet<Server>,
}

impl LeftOut {
    /// The line that names it.
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

/// Leaves out every file that needs one of the missing servers.
pub(crate) fn plan(files: Vec<TestFile>, missing: &BTreeSet<Server>) -> Plan {
    let (left_out, kept): (Vec<_>, Vec<_>) = files
        .into_iter()
        .partition(|file| file.needs.iter().any(|need| missing.contains(need)));
    let runs = runs(&left_out, &kept);
    let left_out = left_out.into_iter().map(|file| LeftOut {
        missing: file
            .needs
            .iter()
            .copied()
            .filter(|need| missing.contains(need))
            .collect(),
        file,
    });
    Plan {
        left_out: left_out.collect(),
        runs,
    }
}

/// What the plain demo does not compile, and has tests.
const DEMO: &str = "claviger-demo";
const ITS_FEATURE: &str = "traces";

fn runs(left_out: &[TestFile], kept: &[TestFile]) -> Vec<Vec<String>> {
    let feature = format!("{DEMO}/{ITS_FEATURE}");
    let whole = [
        "test",
        "--workspace",
        "--features",
        &feature,
        "--no-fail-fast",
    ];
    if left_out.is_empty() {
        return vec![strings(&whole)];
    }
    // cargo cannot leave a target out, only name those to run, and by a name that holds
    // for all packages: a kept target whose name is also that of one left out gets a run
    // of its own, in its package.
    let mut all = strings(&whole);
    all.extend(strings(&["--lib", "--bins", "--examples"]));
    let mut alone = Vec::new();
    for file in kept {
        if left_out.iter().any(|out| out.target == file.target) {
            let mut one = strings(&[
                "test",
                "--no-fail-fast",
                "--package",
                &file.package,
                "--test",
                &file.target,
            ]);
            if file.package == DEMO {
                one.extend(strings(&["--features", ITS_FEATURE]));
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
    fn with_every_server_there_one_plain_run_does_all() {
        let plan = plan(files(), &BTreeSet::new());
        assert_eq!(plan.left_out, []);
        assert_eq!(
            lines(&plan),
            ["test --workspace --features claviger-demo/traces --no-fail-fast"]
        );
    }

    #[test]
    fn without_a_server_what_needs_it_is_left_out_and_named() {
        let plan = plan(files(), &no_postgres());
        let named: Vec<_> = plan.left_out.iter().map(LeftOut::line).collect();
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
    fn one_missing_server_of_two_is_named_alone_and_two_together() {
        let files = || {
            vec![
                file("claviger", "rotation", &[Server::PostgreSql, Server::Moto]),
                file("servers", "moto", &[Server::Moto]),
            ]
        };
        let named = |missing| {
            plan(files(), &BTreeSet::from_iter(missing))
                .left_out
                .iter()
                .map(LeftOut::line)
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
    fn a_name_that_another_package_leaves_out_runs_in_its_own_package() {
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
    fn a_missing_server_that_nobody_needs_changes_nothing() {
        let plan = plan(vec![file("claviger", "law_03", &[])], &no_postgres());
        assert_eq!(
            lines(&plan),
            ["test --workspace --features claviger-demo/traces --no-fail-fast"]
        );
    }
}
