//! Paths in Vault: a mount and a name below it.

use std::fmt;

use claviger::error::{ProviderError, ProviderErrorKind};

/// A path below `/v1/`. No part is empty, `.` or `..`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct MountPath {
    mount: String,
    name: String,
}

impl MountPath {
    /// Checks both parts. `setting` is what errors call the name.
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

    /// Returns the path of the API, `mount/prefix/name`.
    pub(crate) fn api_path(&self, prefix: &str) -> String {
        format!("{}/{prefix}/{}", self.mount, self.name)
    }

    /// Returns whether it contains the prefix that the API of a KV store puts between mount and
    /// name. It may still be right.
    pub(crate) fn has_api_prefix(&self) -> bool {
        ["data", "metadata"].iter().any(|prefix| {
            self.name.split('/').next() == Some(prefix)
                || self.mount.rsplit('/').next() == Some(prefix)
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
        "set one name, or several with a slash between them and none at either end, as in \
        \"database\"",
    ))
}

/// Problem of a response without a user or password, and what to do.
pub(crate) const NO_PASSWORD: &str = "the response has no user with a password";
pub(crate) const USE_PASSWORDS: &str = "use a role whose credentials are passwords";

/// Reports an invalid setting and what would be right.
pub(crate) fn misconfigured(setting: &str, remedy: &str) -> ProviderError {
    ProviderError::new(
        ProviderErrorKind::Misconfigured,
        format!("\"{setting}\" is invalid; {remedy}"),
    )
}

/// Makes an error at a place, such as a server and a path. Every error of this crate has what is
/// wrong and what to do, divided by `; `.
pub(crate) fn error_at(
    place: &str,
    kind: ProviderErrorKind,
    problem: &str,
    action: &str,
) -> ProviderError {
    ProviderError::new(kind, format!("{place}: {problem}; {action}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_prefix_is_between_mount_and_name() {
        let place = MountPath::new("team/database", "role", "orders").unwrap();
        assert_eq!(place.api_path("creds"), "team/database/creds/orders");
        assert_eq!(place.to_string(), "team/database/orders");
    }

    #[test]
    fn an_invalid_path_is_an_error_that_names_the_setting() {
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
