//! Form of a password in a login: unchanged, or as SASLprep prepares it.
//!
//! libpq prepares a password for SCRAM, and sends it unchanged for MD5 and in clear text. sqlx 0.8
//! sends the given form with every method, and the method is known only during the login. So
//! verifications of a password with two forms alternate: after a rejection the other form is next.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::credentials::Credentials;
use crate::lock::Mutex;

/// Number of passwords whose form is remembered.
const REMEMBERED: usize = 16;

/// A form of a password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    #[default]
    Prepared,
    Unchanged,
}

impl Form {
    fn other(self) -> Self {
        match self {
            Self::Prepared => Self::Unchanged,
            Self::Unchanged => Self::Prepared,
        }
    }
}

/// The forms of passwords that were verified lately. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forms(Arc<Mutex<KnownForms>>);

#[derive(Debug, Default)]
struct KnownForms {
    /// The form that worked last.
    worked: Form,
    /// Form for the next login, by digest; the latest entry is last.
    next: Vec<([u8; 32], Form)>,
}

impl Forms {
    /// Returns the form for the next login.
    pub(crate) fn form_for(&self, credentials: &Credentials) -> Form {
        let (digest, known) = (digest(credentials), self.0.lock());
        known
            .next
            .iter()
            .find(|(of, _)| *of == digest)
            .map_or(known.worked, |(_, form)| *form)
    }

    /// Notes that a login with this form worked.
    pub(crate) fn worked(&self, credentials: &Credentials, form: Form) {
        let mut known = self.0.lock();
        known.worked = form;
        known.remember(credentials, form);
    }

    /// Notes that a login with this form was rejected.
    pub(crate) fn rejected(&self, credentials: &Credentials, form: Form) {
        self.0.lock().remember(credentials, form.other());
    }
}

impl KnownForms {
    fn remember(&mut self, credentials: &Credentials, form: Form) {
        let digest = digest(credentials);
        self.next.retain(|(of, _)| *of != digest);
        if self.next.len() >= REMEMBERED {
            self.next.remove(0);
        }
        self.next.push((digest, form));
    }
}

fn digest(credentials: &Credentials) -> [u8; 32] {
    Sha256::new()
        .chain_update(credentials.user())
        .chain_update([0])
        .chain_update(credentials.expose_password())
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_alternate_until_one_works_and_the_next_password_starts_with_it() {
        let (forms, first, second) = (
            Forms::default(),
            Credentials::new("app", "first"),
            Credentials::new("app", "second"),
        );
        assert_eq!(forms.form_for(&first), Form::Prepared);
        // Two concurrent verifications report the same form: the other form is still next.
        forms.rejected(&first, Form::Prepared);
        forms.rejected(&first, Form::Prepared);
        assert_eq!(forms.form_for(&first), Form::Unchanged);
        forms.rejected(&first, Form::Unchanged);
        assert_eq!(forms.form_for(&first), Form::Prepared);
        forms.worked(&first, Form::Unchanged);
        assert_eq!(forms.form_for(&second), Form::Unchanged);
        // A candidate's rejection does not affect the active password.
        forms.rejected(&second, Form::Unchanged);
        assert_eq!(
            (forms.form_for(&first), forms.form_for(&second)),
            (Form::Unchanged, Form::Prepared)
        );
        for other in 0..100 {
            forms.rejected(
                &Credentials::new("app", format!("password {other}")),
                Form::Unchanged,
            );
        }
        assert_eq!(forms.0.lock().next.len(), REMEMBERED);
    }
}
