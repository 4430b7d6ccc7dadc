//! One integration test target and its needs.

use claviger_servers::Server;

use crate::need::{Isolation, Needs};

/// A file below `tests/` from which cargo builds a test program.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TestFile {
    /// The package of the target.
    pub(crate) package: String,
    /// Its name, unique only within the package.
    pub(crate) target: String,
    /// The servers that it needs.
    pub(crate) needs: Vec<Server>,
    /// Isolation from other test files.
    pub(crate) isolation: Isolation,
    /// Number of tests, at least 1.
    pub(crate) tests: u64,
}

impl TestFile {
    /// Parses the file's text.
    pub(crate) fn parse(package: &str, target: &str, text: &str) -> Result<Self, String> {
        let Needs { servers, isolation } = Needs::parse(text)?;
        Ok(Self {
            package: package.to_owned(),
            target: target.to_owned(),
            needs: servers,
            isolation,
            tests: count_tests(text).max(1),
        })
    }
}

/// Counts the attributes `#[test]` and `#[tokio::test(…)]`.
fn count_tests(text: &str) -> u64 {
    let attributes = text
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("#["));
    let names = attributes.filter_map(|attribute| attribute.split([']', '(']).next());
    names.fold(0, |count, name| {
        count + u64::from(name == "test" || name.ends_with("::test"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_in_a_file_are_counted() {
        let text = "#[test]
fn a() {}
    #[tokio::test(start_paused = true)]
#[tokio::test]
#[cfg(test)]
// #[test]
#[testing]";
        assert_eq!(
            TestFile::parse("claviger", "laws", text).map(|file| file.tests),
            Ok(3)
        );
    }

    #[test]
    fn a_file_whose_tests_are_elsewhere_counts_as_one() {
        assert_eq!(
            TestFile::parse("claviger", "laws", "mod other;").map(|file| file.tests),
            Ok(1)
        );
    }
}
