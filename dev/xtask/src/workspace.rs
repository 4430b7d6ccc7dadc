//! The members of this workspace and their test files.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use crate::manifest;
use crate::test_file::TestFile;

/// Returns the workspace's folder, two above this package's.
pub(crate) fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package
        .ancestors()
        .nth(2)
        .map_or_else(|| package.clone(), Path::to_path_buf)
}

/// Returns the sorted `tests/<name>.rs` and `tests/<name>/main.rs` of all members.
///
/// # Errors
/// A manifest or a test file cannot be read or parsed. Without its needs, tests would run without
/// their servers.
pub(crate) fn test_files(root: &Path) -> Result<Vec<TestFile>, Box<dyn Error>> {
    let mut files = Vec::new();
    for folder in member_folders(root)? {
        let manifest = read(&folder.join("Cargo.toml"))?;
        let package = manifest::string(&manifest, "package", "name")
            .ok_or_else(|| format!("{} has no package name", folder.display()))?;
        for (target, path) in test_targets(&folder)? {
            let file = TestFile::parse(&package, &target, &with_parts(&path)?)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

pub(crate) fn member_folders(root: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let manifest = read(&root.join("Cargo.toml"))?;
    let members = manifest::list(&manifest, "workspace", "members")
        .ok_or("the root Cargo.toml has no list of members")?;
    let mut folders = Vec::new();
    if manifest::has_table(&manifest, "package") {
        folders.push(root.to_path_buf());
    }
    for member in members {
        match member.strip_suffix("/*") {
            Some(parent) => folders.extend(
                entries(&root.join(parent))?
                    .into_iter()
                    .filter(|entry| entry.join("Cargo.toml").exists()),
            ),
            None => folders.push(root.join(member)),
        }
    }
    Ok(folders)
}

/// Returns the integration tests that cargo discovers, with their names.
fn test_targets(package: &Path) -> Result<Vec<(String, PathBuf)>, Box<dyn Error>> {
    let folder = package.join("tests");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let targets = entries(&folder)?.into_iter().filter_map(|entry| {
        let name = entry.file_stem()?.to_str()?.to_owned();
        if entry.is_dir() {
            let main = entry.join("main.rs");
            return main.is_file().then_some((name, main));
        }
        (entry.extension()? == "rs").then_some((name, entry))
    });
    Ok(targets.collect())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let unreadable = |error| format!("{}: {error}", folder.display());
    let found: Result<Vec<_>, _> = fs::read_dir(folder)
        .map_err(unreadable)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    Ok(found.map_err(unreadable)?)
}

/// Returns the text of a test file and of its parts: the files beside a `main.rs`, and those with
/// `#[path = "…"]`, which several targets may share.
fn with_parts(path: &Path) -> Result<String, Box<dyn Error>> {
    let mut text = read(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut parts = parts(&text, folder);
    if path.ends_with("main.rs") {
        let beside = entries(folder)?;
        parts.extend(beside.into_iter().filter(|entry| {
            entry != path && entry.extension().is_some_and(|extension| extension == "rs")
        }));
    }
    for part in parts {
        text.push('\n');
        text.push_str(&read(&part)?);
    }
    Ok(text)
}

/// Returns the files that a text names by `#[path = "…"]`. The path of a block of modules is a
/// folder, and each module a file in it.
fn parts(text: &str, folder: &Path) -> Vec<PathBuf> {
    let mut parts = Vec::new();
    let mut block: Option<PathBuf> = None;
    for line in text.lines() {
        let path = line
            .strip_prefix("#[path = \"")
            .and_then(|rest| rest.strip_suffix("\"]"));
        let module = line
            .strip_prefix("    mod ")
            .and_then(|rest| rest.strip_suffix(';'));
        match (path, module, &block) {
            (Some(path), ..) if path.ends_with(".rs") => parts.push(folder.join(path)),
            (Some(path), ..) => block = Some(folder.join(path)),
            (_, Some(module), Some(block)) => parts.push(block.join(format!("{module}.rs"))),
            _ if line == "}" => block = None,
            _ => {}
        }
    }
    parts
}

pub(crate) fn read(path: &Path) -> Result<String, Box<dyn Error>> {
    Ok(fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_members_of_this_workspace_are_found() {
        let folders = member_folders(&root()).unwrap_or_default();
        for expected in [root(), root().join("dev/xtask"), root().join("dev/servers")] {
            assert!(
                folders.contains(&expected),
                "{} is not among {folders:?}",
                expected.display()
            );
        }
    }

    #[test]
    fn tests_in_other_files_of_a_target_are_counted() {
        let files = test_files(&root()).unwrap_or_default();
        let law = files.iter().find(|file| file.target.starts_with("law_09_"));
        assert!(law.is_some_and(|law| law.tests > 1), "{law:?}");
        let failures = files.iter().find(|file| file.target == "failures");
        assert!(
            failures.is_some_and(|failures| failures.tests > 10),
            "the files beside a main.rs: {failures:?}"
        );
    }

    #[test]
    fn the_parts_of_a_block_are_the_files_of_its_modules() {
        let text = r#"#[path = "laws/one.rs"]
mod one;
#[path = "laws"]
mod on_mariadb {
    mod two;
    use x;
}
mod b {
    mod three;
}
"#;
        let expected = ["tests/laws/one.rs", "tests/laws/two.rs"].map(PathBuf::from);
        assert_eq!(parts(text, Path::new("tests")), expected);
    }

    #[test]
    fn every_test_file_of_this_workspace_can_be_read() {
        let files = test_files(&root());
        assert!(files.is_ok(), "{files:?}");
    }
}
