//! Results of the checks.

use std::fmt;
use std::time::Duration;

/// The results of all checks of one subject, in the order in which they ran.
///
/// `Display` prints each check that did not pass, and a summary.
#[derive(Clone, Debug)]
#[must_use = "a report fails no test before `assert_passed`"]
pub struct Report {
    subject: &'static str,
    checks: Vec<CheckReport>,
}

/// The result of one check.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CheckReport {
    /// Name of the check, as in `verify_rejects_an_old_password`.
    pub name: &'static str,
    /// Sentence of the documentation that the check verifies, and where it is.
    pub requirement: &'static str,
    /// Result of the check.
    pub outcome: Outcome,
    /// Time that the check took.
    pub took: Duration,
}

/// Result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The subject meets the requirement.
    Passed,
    /// The subject does not meet the requirement, or the controls returned an error.
    Failed {
        /// Expected result.
        expected: String,
        /// Actual result. Known secrets are replaced by `[secret]`.
        actual: String,
    },
    /// The requirement does not apply to this subject, or its controls cannot cause the situation.
    NotApplicable {
        /// Reason why the check did not run.
        reason: String,
    },
    /// The check rests on another one, which has failed. It would fail for the same reason.
    NotRun {
        /// Name of the check that failed.
        failed: &'static str,
    },
}

impl Report {
    pub(super) fn new(subject: &'static str, checks: Vec<CheckReport>) -> Self {
        Self { subject, checks }
    }

    /// Returns every check.
    pub fn checks(&self) -> &[CheckReport] {
        &self.checks
    }

    /// Returns the check of this name, unless it was not selected.
    pub fn check(&self, name: &str) -> Option<&CheckReport> {
        self.checks.iter().find(|check| check.name == name)
    }

    /// Returns the checks that failed.
    pub fn failed(&self) -> impl Iterator<Item = &CheckReport> {
        let failed = |check: &&CheckReport| matches!(check.outcome, Outcome::Failed { .. });
        self.checks.iter().filter(failed)
    }

    /// Returns the checks that did not run, each with its reason.
    pub fn not_applicable(&self) -> impl Iterator<Item = (&CheckReport, &str)> {
        self.checks.iter().filter_map(|check| match &check.outcome {
            Outcome::NotApplicable { reason } => Some((check, reason.as_str())),
            _ => None,
        })
    }

    /// Returns the checks that were not run, because another one has failed.
    pub fn not_run(&self) -> impl Iterator<Item = &CheckReport> {
        let not_run = |check: &&CheckReport| matches!(check.outcome, Outcome::NotRun { .. });
        self.checks.iter().filter(not_run)
    }

    /// Returns whether at least one check passed and none failed.
    pub fn has_passed(&self) -> bool {
        let passed = |check: &CheckReport| check.outcome == Outcome::Passed;
        self.checks.iter().any(passed) && self.failed().next().is_none()
    }

    /// Panics unless the subject has passed.
    ///
    /// # Panics
    /// Panics with the whole report if a check failed, or if none passed.
    #[expect(clippy::panic, reason = "a test fails by panicking")]
    pub fn assert_passed(&self) {
        if !self.has_passed() {
            panic!("{self}");
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (failed, skipped) = (self.failed().count(), self.not_applicable().count());
        let not_run = self.not_run().count();
        let passed = self.checks.len() - failed - skipped - not_run;
        write!(
            f,
            "{}: {passed} checks passed, {failed} failed, {skipped} not applicable",
            self.subject
        )?;
        match not_run {
            0 => writeln!(f)?,
            _ => writeln!(f, ", {not_run} not run")?,
        }
        for check in self.failed() {
            writeln!(f, "{check}")?;
        }
        for (check, _) in self.not_applicable() {
            writeln!(f, "{check}")?;
        }
        for check in self.not_run() {
            writeln!(f, "{check}")?;
        }
        Ok(())
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Passed => write!(f, "passed          {} after {:.1?}", self.name, self.took),
            Outcome::NotApplicable { reason } => {
                write!(f, "not applicable  {}: {reason}", self.name)
            }
            Outcome::NotRun { failed } => {
                write!(f, "not run         {}: {failed} has failed", self.name)
            }
            Outcome::Failed { expected, actual } => write!(
                f,
                "FAILED          {} after {:.1?}\n    requirement: {}\n    expected:    \
                 {expected}\n    actual:      {actual}",
                self.name, self.took, self.requirement
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcomes: impl IntoIterator<Item = Outcome>) -> Report {
        let check = |outcome| CheckReport {
            name: "a_name",
            requirement: "law 0: \"a requirement\"",
            outcome,
            took: Duration::from_millis(1_250),
        };
        Report::new("pool", outcomes.into_iter().map(check).collect())
    }

    #[test]
    fn a_failure_names_its_check_its_requirement_and_both_results() {
        let failed = Outcome::Failed {
            expected: "one".into(),
            actual: "two".into(),
        };
        let skipped = Outcome::NotApplicable {
            reason: "no server".into(),
        };
        let not_run = Outcome::NotRun { failed: "another" };
        let report = report([Outcome::Passed, failed, skipped, not_run]);
        assert!(!report.has_passed());
        let text = report.to_string();
        for part in [
            "pool: 1 checks passed, 1 failed, 1 not applicable, 1 not run",
            "FAILED          a_name after 1.2s",
            "requirement: law 0: \"a requirement\"",
            "expected:    one",
            "actual:      two",
            "not applicable  a_name: no server",
            "not run         a_name: another has failed",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn a_report_without_a_passed_check_has_not_passed() {
        let skipped = Outcome::NotApplicable {
            reason: "no server".into(),
        };
        assert!(!report([]).has_passed());
        assert!(!report([skipped.clone()]).has_passed());
        assert!(report([Outcome::Passed, skipped]).has_passed());
    }
}
