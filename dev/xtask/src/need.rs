//! Parses the first line of a test file: `//! needs: postgresql, …`.

use claviger_servers::Server;

/// Returns the servers that the first line lists; none if it is another line.
///
/// # Errors
/// An unknown tag. Otherwise a typo would run a test without its server.
pub(crate) fn servers(text: &str) -> Result<Vec<Server>, String> {
    let Some(tags) = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("//! needs:"))
    else {
        return Ok(Vec::new());
    };
    tags.split(',')
        .map(|tag| server(tag.trim()).map_err(|error| format!("the first line: {error}")))
        .collect()
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
