//! Every relative link of every Markdown file leads to a file or a folder, and every anchor to a
//! heading.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::markdown;

/// Addresses that are paths in this repository.
const OWN: [&str; 2] = [
    "https://github.com/claviger/claviger/blob/main/",
    "https://github.com/claviger/claviger/tree/main/",
];

/// Returns what is wrong with a link of the file `from`.
fn problem(files: &BTreeMap<String, String>, from: &str, link: &str) -> Option<String> {
    let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
    let own = OWN.iter().find_map(|own| target.strip_prefix(own));
    let path = match own {
        Some(path) => path.to_owned(),
        // Of another site, or of a crate's documentation.
        None if target.contains("://") || target.starts_with("mailto:") => return None,
        None if target.contains("::") => return None,
        None if target.is_empty() => from.to_owned(),
        None => {
            let folder = Path::new(from).parent().unwrap_or(Path::new(""));
            match inside(&folder.join(target)) {
                Some(path) => path,
                None => return Some("leads out of the repository".to_owned()),
            }
        }
    };
    if !markdown::root().join(&path).exists() {
        return Some(format!("there is no {path}"));
    }
    if anchor.is_empty() {
        return None;
    }
    let Some(text) = files.get(&path) else {
        return Some(format!("{path} has no headings"));
    };
    let anchors = markdown::anchors(&markdown::split(text).0);
    let found = anchors.iter().any(|one| one == anchor);
    (!found).then(|| format!("{path} has no heading {anchor:?}"))
}

/// Returns the path without `.` and `..`; `None` if it leads out of the repository.
fn inside(path: &Path) -> Option<String> {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            Component::ParentDir if parts.pop() => {}
            _ => return None,
        }
    }
    Some(parts.to_string_lossy().replace('\\', "/"))
}

#[test]
fn every_link_resolves() {
    let files = markdown::files().expect("the files are read");
    let (mut checked, mut problems) = (0, Vec::new());
    for (from, text) in &files {
        for link in markdown::links(&markdown::split(text).0) {
            checked += 1;
            if let Some(problem) = problem(&files, from, &link) {
                problems.push(format!("{from}: ({link}): {problem}"));
            }
        }
    }
    assert!(files.len() > 30 && checked > 200, "{checked} links");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_broken_link_is_reported() {
    let files = markdown::files().expect("the files are read");
    for (link, expected) in [
        ("start.md", None),
        ("../README.md#settings", None),
        ("README.md#the-backend", None),
        ("https://docs.rs/claviger", None),
        ("stort.md", Some("there is no docs/stort.md")),
        (
            "#no-heading",
            Some("docs/README.md has no heading \"no-heading\""),
        ),
        (
            "../README.md#setings",
            Some("README.md has no heading \"setings\""),
        ),
        ("../../elsewhere.md", Some("leads out of the repository")),
        (
            "https://github.com/claviger/claviger/blob/main/no.md",
            Some("there is no no.md"),
        ),
    ] {
        let problem = problem(&files, "docs/README.md", link);
        assert_eq!(problem.as_deref(), expected, "{link}");
    }
}
