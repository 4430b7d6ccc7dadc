//! The findings of one connection while it is examined.

use crate::finding::{Finding, Outcome, Step};

/// Findings of a connection. Adding a problem ends the examination.
pub(super) struct Found<'f>(pub(super) &'f mut Vec<Finding>);

impl Found<'_> {
    /// Adds a finding. Returns `None` if it is a problem.
    pub(super) fn add(&mut self, mut finding: Finding) -> Option<()> {
        let is_problem = finding.is_problem();
        if let Some(login) = self.0.last_mut()
            && is_problem
            && login.is_problem()
            && login.cause.is_none()
        {
            login.cause = finding.cause;
        }
        if finding.cause == Some("token_rejected") {
            let suspects = self.0.iter().filter(|note| explains_rejection(note));
            let first =
                suspects.map(|note| format!("{}: see {} above", note.detail, note.step.as_str()));
            finding.next.splice(0..0, first.collect::<Vec<_>>());
        }
        self.0.push(finding);
        (!is_problem).then_some(())
    }

    /// Returns whether a step has found nothing wrong.
    pub(super) fn has_ok(&self, step: Step) -> bool {
        let mut findings = self.0.iter();
        findings.any(|finding| finding.step == step && finding.outcome == Outcome::Ok)
    }

    /// Removes the possible causes of a failed login, because the catalog shows the actual one: that
    /// of the problem that is added next.
    pub(super) fn narrow_down(&mut self) {
        if let Some(login) = self.0.last_mut().filter(|last| last.is_problem()) {
            login.cause = None;
            login.next.clear();
            login.statements.clear();
        }
    }
}

/// Returns whether a note is the probable cause of a rejected token.
fn explains_rejection(note: &Finding) -> bool {
    note.outcome == Outcome::Note
        && matches!(note.cause, Some("clock_skew" | "token_of_another_host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_login_has_the_cause_that_the_catalog_shows() {
        let mut findings = Vec::new();
        let mut found = Found(&mut findings);
        let login = Finding::problem(Step::Login, "password_rejected", "28P01").with_next("try");
        assert_eq!(found.add(login), None);
        found.narrow_down();
        let role = Finding::problem(Step::Role, "no_such_role", "missing").with_next("create it");
        assert_eq!(found.add(role), None);
        let causes: Vec<_> = findings.iter().map(|finding| finding.cause).collect();
        assert_eq!(causes, [Some("no_such_role"); 2]);
        assert!(findings[0].next.is_empty(), "{findings:?}");
    }

    #[test]
    fn an_earlier_note_is_the_first_cause_of_a_rejected_token() {
        let mut findings = Vec::new();
        let mut found = Found(&mut findings);
        for note in ["token_of_another_host", "clock_not_compared"] {
            let added = found.add(Finding::note(Step::Token, note, "for host a"));
            assert_eq!(added, Some(()));
        }
        let rejected = Finding::problem(Step::Login, "token_rejected", "PAM").with_next("others");
        assert_eq!(found.add(rejected), None);
        assert_eq!(findings[2].next, ["for host a: see token above", "others"]);
    }
}
