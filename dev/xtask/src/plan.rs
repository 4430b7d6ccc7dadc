//! Decides which tests run before any does.
//!
//! libtest cannot skip: a test that finds no server and returns counts as passed. Therefore a
//! target whose server is missing is not run at all.

use std::collections::BTreeSet;

use claviger_servers::Server;

use crate::need::Isolation;
use crate::test_file::TestFile;

/// The targets to run and to skip.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The targets that cannot run on this machine.
    pub(crate) skipped: Vec<Skipped>,
    /// The arguments of cargo's call that builds everything.
    pub(crate) build: Vec<String>,
    /// The arguments of the calls that run tests, in steps. Those of a step run at the same time.
    pub(crate) steps: Vec<Vec<Vec<String>>>,
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
    let steps = steps(&skipped, &kept);
    let build = whole(&["--no-run"]);
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
        build,
        steps,
    }
}

/// Packages with features that their tests need and that are not enabled by default.
const FEATURES: [(&str, &[&str]); 2] = [
    ("claviger-config", &["full"]),
    (
        "claviger-demo",
        &["bb8", "deadpool", "diesel", "page", "redis", "traces"],
    ),
];

/// The root package, whose tests take about as long as all others together.
const CORE: &str = "claviger";

/// Runs the core's tests beside all others and the documentation tests, because most of them wait.
/// Files that need a quiet machine come afterwards, two at a time.
fn steps(skipped: &[TestFile], kept: &[TestFile]) -> Vec<Vec<Vec<String>>> {
    let call = || whole(&["--no-fail-fast"]);
    let mut others = whole(&["--no-fail-fast", "--lib", "--bins"]);
    let (mut core, mut alone) = (call(), call());
    let mut quiet = [call(), call()];
    let mut in_package = Vec::new();
    let quiet_files = kept
        .iter()
        .filter(|file| file.isolation == Isolation::Quiet);
    let quiet_packages: BTreeSet<_> = quiet_files.map(|file| &file.package).collect();
    // cargo's `--test NAME` applies to all packages: a name is called once. It cannot exclude a
    // target either, so a target with the name of a skipped one gets a call in its package.
    let mut called = BTreeSet::new();
    for file in kept {
        let name = file.target.as_str();
        if skipped.iter().any(|out| out.target == name) {
            let mut one = strings(&["test", "--no-fail-fast", "--package", &file.package]);
            one.extend(strings(&["--test", name]));
            let features = FEATURES
                .iter()
                .find(|(package, _)| *package == file.package);
            if let Some((_, features)) = features {
                one.extend(strings(&["--features", &features.join(",")]));
            }
            in_package.push(vec![one]);
        } else if called.insert(name) {
            let same_name = || kept.iter().filter(|file| file.target == name);
            let strictest = same_name()
                .max_by_key(|file| file.isolation)
                .unwrap_or(file);
            let call = match strictest.isolation {
                Isolation::Alone => &mut alone,
                Isolation::Quiet => {
                    let mut packages = quiet_packages.iter();
                    let at = packages.position(|package| **package == strictest.package);
                    &mut quiet[at.unwrap_or_default() % 2]
                }
                Isolation::None if same_name().any(|file| file.package == CORE) => &mut core,
                Isolation::None => &mut others,
            };
            call.extend(strings(&["--test", name]));
        }
    }
    // Without a name, cargo would run every target.
    let with_targets = |calls: Vec<Vec<String>>| {
        let has_target = |call: &Vec<String>| call.iter().any(|word| word == "--test");
        calls.into_iter().filter(has_target).collect::<Vec<_>>()
    };
    let mut together = with_targets(vec![core]);
    together.extend([others, whole(&["--no-fail-fast", "--doc"])]);
    let mut steps = vec![together, with_targets(quiet.into())];
    steps.push(with_targets(vec![alone]));
    steps.extend(in_package);
    steps.retain(|step| !step.is_empty());
    steps
}

/// Returns a call for the whole workspace, so that each call uses the same build.
fn whole(more: &[&str]) -> Vec<String> {
    let features = FEATURES.iter().flat_map(|(package, features)| {
        features
            .iter()
            .map(move |feature| format!("{package}/{feature}"))
    });
    let features: Vec<_> = features.collect();
    let mut call = strings(&["test", "--workspace", "--features", &features.join(",")]);
    call.extend(strings(more));
    call
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
            isolation: Isolation::None,
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

    /// The steps, without what all calls have in common.
    fn steps(plan: &Plan) -> Vec<Vec<String>> {
        let common = whole(&[]).join(" ") + " ";
        let line = |call: &Vec<String>| call.join(" ").replace(&common, "");
        let step = |step: &Vec<Vec<String>>| step.iter().map(line).collect();
        plan.steps.iter().map(step).collect()
    }

    fn no_postgres() -> BTreeSet<Server> {
        BTreeSet::from([Server::PostgreSql])
    }

    #[test]
    fn the_core_s_tests_run_beside_all_others() {
        let plan = plan(files(), &BTreeSet::new());
        assert_eq!(plan.skipped, []);
        assert_eq!(
            steps(&plan),
            [vec![
                "--no-fail-fast --test law_01_no_query_is_lost --test law_03",
                "--no-fail-fast --lib --bins --test programs",
                "--no-fail-fast --doc",
            ]]
        );
    }

    fn isolated(package: &str, target: &str, isolation: Isolation) -> TestFile {
        TestFile {
            isolation,
            ..file(package, target, &[])
        }
    }

    #[test]
    fn two_files_that_need_a_quiet_machine_run_at_a_time_and_others_alone() {
        let mut files = files();
        files.extend([
            isolated("aws", "tokens", Isolation::Quiet),
            isolated("aws", "secrets", Isolation::Quiet),
            isolated("simulator", "simulation", Isolation::Alone),
            isolated("vault", "leases", Isolation::Quiet),
        ]);
        let plan = plan(files, &BTreeSet::new());
        assert_eq!(
            steps(&plan)[1..],
            [
                vec![
                    "--no-fail-fast --test tokens --test secrets",
                    "--no-fail-fast --test leases",
                ],
                vec!["--no-fail-fast --test simulation"],
            ]
        );
    }

    #[test]
    fn a_name_in_two_packages_is_called_once_with_the_stricter_isolation() {
        let files = vec![
            file("claviger", "tls", &[]),
            file("claviger", "rotation", &[]),
            file("servers", "tls", &[]),
            isolated("providers", "rotation", Isolation::Quiet),
        ];
        let plan = plan(files, &BTreeSet::new());
        assert_eq!(
            steps(&plan),
            [
                vec![
                    "--no-fail-fast --test tls",
                    "--no-fail-fast --lib --bins",
                    "--no-fail-fast --doc",
                ],
                vec!["--no-fail-fast --test rotation"],
            ]
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
            steps(&plan)[0],
            [
                "--no-fail-fast --test law_03",
                "--no-fail-fast --lib --bins --test programs",
                "--no-fail-fast --doc",
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
                    "skipped: claviger rotation (needs PostgreSQL and moto; \
                     install it with: {postgres} && {moto})"
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
            steps(&plan)[..2],
            [
                vec!["--no-fail-fast --lib --bins", "--no-fail-fast --doc"],
                vec!["test --no-fail-fast --package servers --test tls"],
            ]
        );
    }
}
