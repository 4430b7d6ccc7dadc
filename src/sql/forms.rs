//! Form of a password that a server accepts: as it is, or as SASLprep prepares it.
//!
//! libpq prepares a password for SCRAM, and sends it as it is for MD5 and in clear text. sqlx sends
//! what it is given, whichever method the server requests, and a client learns that only in the
//! login. So verifications of a password of which there are two forms take turns: after a rejection
//! the other form is next.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::credentials::Credentials;
use crate::lock::{Mutex, MutexGuard};

/// Number of passwords whose form is remembered.
const REMEMBERED: usize = 16;

/// A form of a password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    #[default]
    Prepared,
    AsItIs,
}

impl Form {
    fn other(self) -> Self {
        match self {
            Self::Prepared => Self::AsItIs,
            Self::AsItIs => Self::Prepared,
        }
    }
}

/// The forms of passwords that were verified lately. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forms(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// The form that worked last.
    worked: Form,
    /// By digest, the latest last.
    next: Vec<([u8; 32], Form)>,
}

impl Forms {
    /// Returns the form for the next login.
    pub(crate) fn form_for(&self, credentials: &Credentials) -> Form {
        let (digest, known) = (digest(credentials), self.lock());
        known
            .next
            .iter()
            .find(|(of, _)| *of == digest)
            .map_or(known.worked, |(_, form)| *form)
    }

    /// Notes that a login with this form worked.
    pub(crate) fn worked(&self, credentials: &Credentials, form: Form) {
        let mut known = self.lock();
        known.worked = form;
        known.remember(credentials, form);
    }

    /// Notes that a login with this form was rejected.
    pub(crate) fn rejected(&self, credentials: &Credentials, form: Form) {
        self.lock().remember(credentials, form.other());
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock()
    }
}

impl Known {
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
    fn forms_take_turns_until_one_works_and_that_one_is_first_for_the_next_password() {
        let (forms, first, second) = (
            Forms::default(),
            Credentials::new("app", "first"),
            Credentials::new("app", "second"),
        );
        assert_eq!(forms.form_for(&first), Form::Prepared);
        // Reported twice by verifications side by side: the other one is next all the same.
        forms.rejected(&first, Form::Prepared);
        forms.rejected(&first, Form::Prepared);
        assert_eq!(forms.form_for(&first), Form::AsItIs);
        forms.rejected(&first, Form::AsItIs);
        assert_eq!(forms.form_for(&first), Form::Prepared);
        forms.worked(&first, Form::AsItIs);
        assert_eq!(forms.form_for(&second), Form::AsItIs);
        // A candidate's rejection does not concern the active password.
        forms.rejected(&second, Form::AsItIs);
        assert_eq!(
            (forms.form_for(&first), forms.form_for(&second)),
            (Form::AsItIs, Form::Prepared)
        );
        for other in 0..100 {
            forms.rejected(
                &Credentials::new("app", format!("password {other}")),
                Form::AsItIs,
            );
        }
        assert_eq!(forms.lock().next.len(), REMEMBERED);
    }
}
