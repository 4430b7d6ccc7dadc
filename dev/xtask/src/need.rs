//! Parses the first line of a test file: `//! needs: postgresql, …`.

use claviger_servers::Server;

/// Isolation of a test file from others on the same machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Isolation {
    /// Its tests run beside any others.
    #[default]
    None,
    /// Short real times matter in its tests: one other such file may run.
    Quiet,
    /// Its tests use every core: nothing else may run.
    Alone,
}

impl Isolation {
    fn parse(tag: &str) -> Option<Self> {
        match tag {
            "quiet" => Some(Self::Quiet),
            "alone" => Some(Self::Alone),
            _ => None,
        }
    }
}

/// What a test file needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// The servers.
    pub(crate) servers: Vec<Server>,
    /// Isolation from other test files.
    pub(crate) isolation: Isolation,
}

impl Needs {
    /// Parses the tags of the first line; nothing is needed if it is another line.
    ///
    /// # Errors
    /// An unknown tag. Otherwise a typo would run a test without its server.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut needs = Self::default();
        let tags = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("//! needs:"));
        for tag in tags.into_iter().flat_map(|tags| tags.split(',')) {
            let tag = tag.trim();
            match Isolation::parse(tag) {
                Some(isolation) => needs.isolation = isolation,
                None => needs
                    .servers
                    .push(server(tag).map_err(|error| format!("the first line: {error}"))?),
            }
        }
        Ok(needs)
    }
}

/// Returns the server of this tag.
///
/// # Errors
/// An unknown tag.
pub(crate) fn server(tag: &str) -> Result<Server, String> {
    Server::ALL
        .iter()
        .copied()
        .find(|server| server.tag() == tag)
        .ok_or_else(|| {
            let known: Vec<_> = Server::ALL.iter().map(|server| server.tag()).collect();
            format!(
                "{tag:?} is no server; it must be one of: {}",
                known.join(", ")
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Result<Vec<Server>, String> {
        Needs::parse(text).map(|needs| needs.servers)
    }

    #[test]
    fn the_first_line_names_the_servers() {
        assert_eq!(
            servers("//! needs: postgresql\n//!\n//! More."),
            Ok(vec![Server::PostgreSql])
        );
        assert_eq!(
            servers("//! needs: postgresql , moto"),
            Ok(vec![Server::PostgreSql, Server::Moto])
        );
    }

    #[test]
    fn a_quiet_machine_is_no_server() {
        for (tag, isolation) in [("quiet", Isolation::Quiet), ("alone", Isolation::Alone)] {
            let expected = Needs {
                servers: vec![Server::Moto],
                isolation,
            };
            let text = format!("//! needs: moto, {tag}");
            assert_eq!(Needs::parse(&text), Ok(expected));
        }
    }

    #[test]
    fn other_files_need_nothing() {
        for file in [
            "",
            "//! Looking for programs.\n",
            "//! It works.\n//! needs: postgresql\n",
            "// needs: postgresql",
        ] {
            assert_eq!(servers(file), Ok(Vec::new()), "{file:?}");
        }
    }

    #[test]
    fn an_unknown_tag_is_an_error_with_the_known_tags() {
        for file in [
            "//! needs: postgersql",
            "//! needs:",
            "//! needs: postgresql,",
        ] {
            let error = servers(file);
            assert!(
                error
                    .as_ref()
                    .is_err_and(|error| error.contains("one of: postgresql")),
                "{file:?}: {error:?}"
            );
        }
    }
}
