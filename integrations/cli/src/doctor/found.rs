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
        let rejection = match (finding.cause, self.0.last()) {
            // This finding follows from the rejected password, so it has the same suspects.
            (Some("role_is_right"), Some(login)) if login.cause == Some("password_rejected") => {
                login.cause
            }
            (cause, _) => cause,
        };
        let suspects = self.0.iter().filter(|note| explains(note, rejection));
        let first =
            suspects.map(|note| format!("{}: see {} above", note.detail, note.step.as_str()));
        let first: Vec<_> = first.collect();
        finding.next.splice(0..0, first);
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

/// Returns whether a note is the probable cause of a rejection.
fn explains(note: &Finding, rejection: Option<&str>) -> bool {
    let suspects: &[&str] = match rejection {
        Some("token_rejected") => &[
            "clock_skew",
            "token_of_another_host",
            "password_has_white_space",
        ],
        Some("password_rejected" | "rejected_by_pgbouncer") => &["password_has_white_space"],
        _ => &[],
    };
    note.outcome == Outcome::Note && note.cause.is_some_and(|cause| suspects.contains(&cause))
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

    #[test]
    fn white_space_is_the_first_cause_of_a_rejected_password() {
        for (cause, expected) in [
            (
                "password_rejected",
                &["a space: see secret above", "compare"][..],
            ),
            ("unknown_database", &["compare"]),
        ] {
            let mut findings = Vec::new();
            let mut found = Found(&mut findings);
            let note = Finding::note(Step::Secret, "password_has_white_space", "a space");
            assert_eq!(found.add(note), Some(()));
            let rejected = Finding::problem(Step::Login, cause, "28P01").with_next("compare");
            assert_eq!(found.add(rejected), None);
            let role = Finding::note(Step::Role, "role_is_right", "it is").with_next("compare");
            assert_eq!(found.add(role), Some(()));
            assert_eq!(findings[1].next, expected);
            assert_eq!(findings[2].next, expected);
        }
    }
}
