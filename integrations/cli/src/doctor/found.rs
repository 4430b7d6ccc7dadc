//! The findings of one connection while it is examined.

use crate::finding::{Finding, Outcome, Step};

/// Findings of a connection. Adding a problem ends the examination.
pub(super) struct Found<'f>(pub(super) &'f mut Vec<Finding>);

impl Found<'_> {
    /// Adds a finding. Returns `None` if it is a problem.
    pub(super) fn add(&mut self, finding: Finding) -> Option<()> {
        let is_problem = finding.is_problem();
        self.0.push(finding);
        (!is_problem).then_some(())
    }

    /// Returns whether a step has found nothing wrong.
    pub(super) fn has_ok(&self, step: Step) -> bool {
        let mut findings = self.0.iter();
        findings.any(|finding| finding.step == step && finding.outcome == Outcome::Ok)
    }

    /// Removes the possible causes of a failed login, because the catalog shows the actual one.
    pub(super) fn narrow_down(&mut self) {
        if let Some(login) = self.0.last_mut().filter(|last| last.is_problem()) {
            login.next.clear();
            login.statements.clear();
        }
    }
}
