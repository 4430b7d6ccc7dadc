//! needs: prometheus
//!
//! `promtool` checks and tests the rules, and each alert has a section in the manual.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use claviger_servers::Server;

fn repository_path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

fn promtool(arguments: &[&str]) -> (bool, String) {
    let promtool = Server::Prometheus
        .find()
        .expect("it is installed")
        .join("promtool");
    let output = Command::new(promtool)
        .args(arguments)
        .current_dir(repository_path("ops/prometheus"))
        .output()
        .expect("it runs");
    (
        output.status.success(),
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
    )
}

#[test]
fn promtool_accepts_the_rules_and_their_tests() {
    let (succeeded, output) = promtool(&["check", "rules", "claviger.rules.yml"]);
    assert!(succeeded && output.contains("7 rules found"), "{output}");
    let (succeeded, output) = promtool(&["test", "rules", "claviger.test.yml"]);
    assert!(succeeded && output.contains("SUCCESS"), "{output}");
}

#[test]
fn every_alert_is_tested_and_links_to_its_section_of_the_manual() {
    let [rules, tests, manual] = [
        "ops/prometheus/claviger.rules.yml",
        "ops/prometheus/claviger.test.yml",
        "docs/operating.md",
    ]
    .map(|path| fs::read_to_string(repository_path(path)).expect("it can be read"));
    let values_of = |key: &str| -> Vec<String> {
        rules
            .lines()
            .filter_map(|line| Some(line.split_once(key)?.1.trim().to_owned()))
            .collect()
    };
    let (alerts, runbooks) = (values_of("- alert: "), values_of("runbook_url: "));
    assert_eq!((alerts.len(), runbooks.len()), (7, 7));
    for (alert, runbook) in alerts.iter().zip(&runbooks) {
        let fires = tests
            .split("alertname: ")
            .any(|test| test.starts_with(&format!("{alert}\n")) && test.contains("exp_labels"));
        assert!(fires, "{alert} never fires in the tests of the rules");
        assert!(
            runbook.ends_with(&format!("docs/operating.md#{}", alert.to_lowercase())),
            "{runbook}"
        );
        assert!(
            manual
                .lines()
                .any(|line| line.starts_with('#') && line.trim_start_matches('#').trim() == alert),
            "{alert} is not in the manual"
        );
    }
}
