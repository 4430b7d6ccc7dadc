//! Where something is in Vault: a mount and a name below it.

use std::fmt;

use claviger::{ProviderError, ProviderErrorKind};

/// A path below `/v1/`, whose parts are no empty ones and lead nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct MountPath {
    mount: String,
    name: String,
}

impl MountPath {
    /// `what` names the setting that `name` is.
    ///
    /// # Errors
    /// `Misconfigured`, naming the setting.
    pub(crate) fn new(
        mount: impl Into<String>,
        what: &str,
        name: impl Into<String>,
    ) -> Result<Self, ProviderError> {
        Ok(Self {
            mount: check_path("mount", mount.into())?,
            name: check_path(what, name.into())?,
        })
    }

    /// `mount/word/name`.
    pub(crate) fn below(&self, word: &str) -> String {
        format!("{}/{word}/{}", self.mount, self.name)
    }

    /// Returns whether it has the prefix that the API of a KV store puts between mount and name, as
    /// in policies. It may be right all the same.
    pub(crate) fn looks_like_api_path(&self) -> bool {
        ["data", "metadata"].iter().any(|word| {
            self.name.split('/').next() == Some(word) || self.mount.rsplit('/').next() == Some(word)
        })
    }
}

impl fmt::Display for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.mount, self.name)
    }
}

impl fmt::Debug for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A path of one part or more, without a slash at either end.
///
/// # Errors
/// `Misconfigured`, naming the setting and saying what would be right.
pub(crate) fn check_path(what: &str, path: String) -> Result<String, ProviderError> {
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && !part.contains(|c: char| c.is_control() || matches!(c, '\\' | '?' | '#'))
    };
    if path.split('/').all(is_part) {
        return Ok(path);
    }
    Err(misconfigured(
        what,
        "give one name or several with a slash between them, without one at either end, as `database`",
    ))
}

/// A setting that cannot be right.
pub(crate) fn misconfigured(what: &str, right: &str) -> ProviderError {
    ProviderError::new(
        ProviderErrorKind::Misconfigured,
        format!("`{what}` cannot be right: {right}"),
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn parts_are_put_together() {
        let place = MountPath::new("team/database", "role", "orders").unwrap();
        assert_eq!(place.below("creds"), "team/database/creds/orders");
        assert_eq!(place.to_string(), "team/database/orders");
    }

    #[test]
    fn what_leads_elsewhere_is_rejected_by_name() {
        for bad in [
            "",
            "/database",
            "database/",
            "a//b",
            "..",
            "a/../sys",
            ".",
            "a\nb",
            "a?b",
            "a#b",
            "a\\b",
        ] {
            for (error, name) in [
                (MountPath::new(bad, "role", "x").unwrap_err(), "`mount`"),
                (MountPath::new("x", "role", bad).unwrap_err(), "`role`"),
            ] {
                assert_eq!(error.kind(), ProviderErrorKind::Misconfigured);
                assert!(error.to_string().starts_with(name), "{bad:?}: {error}");
            }
        }
    }
}
