//! The stored password of a role, which a superuser may read. Only its kind leaves the server.

use sqlx::{PgConnection, Row as _};
use tokio::time::timeout;

use super::TIMEOUT;
use crate::finding::{Finding, Step, one_line};

/// Reads how the password of the role $1 is stored, and whether an entry of pg_hba.conf accepts
/// MD5. Superusers alone may.
const PASSWORD: &str = "
    SELECT CASE WHEN rolpassword IS NULL THEN 'none'
                WHEN rolpassword LIKE 'md5%' THEN 'md5'
                ELSE 'other' END AS stored,
           EXISTS (SELECT FROM pg_hba_file_rules WHERE auth_method = 'md5') AS accepts_md5
    FROM pg_authid WHERE rolname = $1";

/// A password that a login cannot use, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::doctor) enum Stored {
    /// There is none.
    None,
    /// As MD5, which no entry of pg_hba.conf accepts.
    UnacceptedMd5,
}

/// Reads whether the stored password of a role is one that no login can use. `None` if it is not,
/// or if the administrator may not read it.
pub(in crate::doctor) async fn read_password(
    admin: &mut PgConnection,
    user: &str,
) -> Option<Stored> {
    let query = sqlx::query(PASSWORD).bind(user);
    let row = timeout(TIMEOUT, query.fetch_one(admin)).await.ok()?.ok()?;
    let stored: String = row.try_get("stored").ok()?;
    let accepts_md5: bool = row.try_get("accepts_md5").ok()?;
    match stored.as_str() {
        "none" => Some(Stored::None),
        "md5" if !accepts_md5 => Some(Stored::UnacceptedMd5),
        _ => None,
    }
}

/// Returns the finding for a stored password that no login can use.
pub(in crate::doctor) fn password_finding(stored: Stored, user: &str) -> Finding {
    let user = one_line(user);
    let (cause, detail, next) = match stored {
        Stored::None => (
            "role_without_password",
            format!("the role {user} has no password, so every one is rejected"),
            "set that of the backend",
        ),
        Stored::UnacceptedMd5 => (
            "password_stored_as_md5",
            format!(
                "the password of role {user} is stored as MD5, and no entry of pg_hba.conf accepts \
                 that"
            ),
            "set the password again with `password_encryption` = 'scram-sha-256'",
        ),
    };
    let statement = format!("ALTER ROLE \"{}\" PASSWORD '…'", user.replace('"', "\"\""));
    let finding = Finding::problem(Step::Role, cause, detail).with_next(next);
    finding.with_statement(statement)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_in_a_statement_is_quoted() {
        let finding = password_finding(Stored::None, "a\"b");
        assert_eq!(finding.statements, ["ALTER ROLE \"a\"\"b\" PASSWORD '…'"]);
    }
}
