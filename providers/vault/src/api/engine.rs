//! Errors of the database behind Vault's engine. Vault returns the database's text with status 500
//! or 400.

use claviger::error::ProviderErrorKind as Kind;

use super::CallError;

/// Explains an error that the database, or the engine's settings for it, caused. `None` if it is
/// another one.
pub(super) fn explain(error: &CallError, status: u16) -> Option<(Kind, String, &'static str)> {
    if !matches!(status, 400 | 500) {
        return None;
    }
    let named = |problem: &str| match error.code() {
        Some(code) => format!("{problem} ({code})"),
        None => problem.to_owned(),
    };
    Some(match cause(error)? {
        Cause::RoleNotAllowed => (
            Kind::Denied,
            "the engine's connection does not allow this role".to_owned(),
            "add it to `allowed_roles` of the connection in Vault",
        ),
        Cause::Login => (
            Kind::Unavailable,
            named("the database rejects the login of the engine's user"),
            "correct its user name and password in the engine's connection; for PostgreSQL also look \
             for its entry in pg_hba.conf",
        ),
        Cause::NoConnection => (
            Kind::Misconfigured,
            "the engine has no connection of the role's `db_name`".to_owned(),
            "correct `db_name` of the role in Vault, or configure that connection",
        ),
        Cause::Permission => (
            Kind::Denied,
            named("the engine's user lacks a permission in the database"),
            "grant it CREATEROLE (MySQL: CREATE USER), and what the role's statements grant",
        ),
        Cause::Statement => (
            Kind::Misconfigured,
            named("the database rejects a statement of the role"),
            "correct the role's statements in Vault, and create what they name",
        ),
        Cause::NoDatabase => (
            Kind::Unavailable,
            named("the database of the engine's connection does not exist"),
            "create it, or correct the database in `connection_url` of the connection in Vault",
        ),
        Cause::NoObject => (
            Kind::Unavailable,
            named("the role's statements name what does not exist in the database"),
            "create it, for example by a migration, or correct the role's statements in Vault",
        ),
        Cause::Connection if status == 500 => (
            Kind::Unavailable,
            named("Vault cannot connect to the database"),
            "check the database and Vault's connection to it",
        ),
        Cause::Connection => (
            Kind::Unavailable,
            "the database behind Vault is down".to_owned(),
            "check the database and Vault's connection to it",
        ),
        Cause::Other => (
            Kind::Unavailable,
            named("the database returned an error to Vault"),
            "see the logs of Vault and of the database for this request",
        ),
    })
}

enum Cause {
    /// `allowed_roles` does not contain the role.
    RoleNotAllowed,
    /// The role is for a connection that does not exist.
    NoConnection,
    /// The database rejects the password of the engine's user.
    Login,
    /// The engine's user may not do what a statement does.
    Permission,
    /// A statement is wrong.
    Statement,
    /// The engine's database does not exist, perhaps because it is being restored.
    NoDatabase,
    /// A statement names what does not exist, perhaps because a migration is still to come.
    NoObject,
    /// The engine cannot connect, or its connection ended.
    Connection,
    /// Any other error of the database.
    Other,
}

/// Returns the cause by the database's code, or else by the text.
fn cause(error: &CallError) -> Option<Cause> {
    if error.mentions(&["is not an allowed role"]) {
        return Some(Cause::RoleNotAllowed);
    }
    if error.mentions(&["failed to find entry for connection"]) {
        return Some(Cause::NoConnection);
    }
    if let Some(cause) = error.code().and_then(|code| of_code(&code)) {
        return Some(cause);
    }
    let texts: [(&[&str], Cause); 5] = [
        (
            &[
                "password authentication failed",
                "PAM authentication failed",
            ],
            Cause::Login,
        ),
        (
            &[
                "permission denied to",
                "must be superuser",
                "Access denied;",
            ],
            Cause::Permission,
        ),
        (&["syntax error"], Cause::Statement),
        (CONNECTION_TEXTS, Cause::Connection),
        (
            &["unable to create user", "error creating database object"],
            Cause::Other,
        ),
    ];
    let mut texts = texts.into_iter();
    let found = texts.find(|(words, _)| error.mentions(words));
    found
        .map(|(_, cause)| cause)
        .or_else(|| error.code().map(|_| Cause::Other))
}

/// Returns the cause of a SQLSTATE of PostgreSQL, or of a number of MySQL and MariaDB.
fn of_code(code: &str) -> Option<Cause> {
    Some(match code.split_once(' ')? {
        ("SQLSTATE", "28P01" | "28000") => Cause::Login,
        ("SQLSTATE", "42501") => Cause::Permission,
        ("SQLSTATE", "3D000") => Cause::NoDatabase,
        ("SQLSTATE", "3F000" | "42P01") => Cause::NoObject,
        ("SQLSTATE", state) => match state.get(..2)? {
            "08" | "53" | "57" => Cause::Connection,
            "0A" | "22" | "42" => Cause::Statement,
            _ => Cause::Other,
        },
        (_, "1045" | "1698") => Cause::Login,
        (_, "1044" | "1142" | "1227" | "1370" | "1410") => Cause::Permission,
        (_, "1040" | "1053" | "1203" | "1226") => Cause::Connection,
        (_, "1049") => Cause::NoDatabase,
        (_, "1146") => Cause::NoObject,
        (_, "1064" | "1133" | "1396") => Cause::Statement,
        _ => Cause::Other,
    })
}

impl CallError {
    /// Returns the database's code in a text, as `SQLSTATE 42501`, or for MySQL `error 1064`.
    fn code(&self) -> Option<String> {
        let Self::Status { texts, .. } = self else {
            return None;
        };
        texts.iter().find_map(|text| {
            let state = word_after(text, "SQLSTATE ", 5).map(|state| format!("SQLSTATE {state}"));
            let number = || word_after(text, "Error ", 4).filter(|word| is_number(word));
            state.or_else(|| number().map(|number| format!("error {number}")))
        })
    }
}

/// Returns the word of this length after a text. It is a code, and no secret.
fn word_after<'t>(text: &'t str, before: &str, length: usize) -> Option<&'t str> {
    let (_, after) = text.split_once(before)?;
    let end = after
        .find(|c: char| !c.is_ascii_alphanumeric())
        .unwrap_or(after.len());
    after.get(..end).filter(|word| word.len() == length)
}

fn is_number(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit())
}

/// Texts of a connection that could not be opened, or that ended.
const CONNECTION_TEXTS: &[&str] = &[
    "connection refused",
    "failed to connect",
    "dial tcp",
    "dial error",
    "error verifying connection",
    "driver: bad connection",
    "context deadline exceeded",
    "broken pipe",
    "connection reset",
];
