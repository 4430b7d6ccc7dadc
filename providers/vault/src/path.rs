//! Paths in Vault: a mount and a name below it.

use std::fmt;

use claviger::error::{ProviderError, ProviderErrorKind};

/// A path below `/v1/`. No part is empty or leads elsewhere.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct MountPath {
    mount: String,
    name: String,
}

impl MountPath {
    /// `setting` is the setting that `name` comes from.
    ///
    /// # Errors
    /// `Misconfigured`, naming the setting.
    pub(crate) fn new(
        mount: impl Into<String>,
        setting: &str,
        name: impl Into<String>,
    ) -> Result<Self, ProviderError> {
        Ok(Self {
            mount: check_path("mount", mount.into())?,
            name: check_path(setting, name.into())?,
        })
    }

    /// Returns `mount/word/name`.
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

/// Returns the path if it has one part or more, and no slash at either end.
///
/// # Errors
/// `Misconfigured`, naming the setting and what would be right.
pub(crate) fn check_path(setting: &str, path: String) -> Result<String, ProviderError> {
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && !part.contains(|c: char| c.is_control() || matches!(c, '\\' | '?' | '#'))
    };
    if path.split('/').all(is_part) {
        return Ok(path);
    }
    Err(misconfigured(
        setting,
        "set one name, or several with a slash between them and none at either end, as in \"database\"",
    ))
}

/// Reports an invalid setting and what would be right.
pub(crate) fn misconfigured(setting: &str, remedy: &str) -> ProviderError {
    ProviderError::new(
        ProviderErrorKind::Misconfigured,
        format!("\"{setting}\" is invalid: {remedy}"),
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn parts_are_joined() {
        let place = MountPath::new("team/database", "role", "orders").unwrap();
        assert_eq!(place.below("creds"), "team/database/creds/orders");
        assert_eq!(place.to_string(), "team/database/orders");
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_an_error() {
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
                (MountPath::new(bad, "role", "x").unwrap_err(), "\"mount\""),
                (MountPath::new("x", "role", bad).unwrap_err(), "\"role\""),
            ] {
                assert_eq!(error.kind(), ProviderErrorKind::Misconfigured);
                assert!(error.to_string().starts_with(name), "{bad:?}: {error}");
            }
        }
    }
}
