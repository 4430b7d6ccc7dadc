//! Pages of the guide: each is in its index, its Rust code is compiled, and its permissions are
//! those of the provider's README.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use crate::{PAGES, markdown};

/// Compiled by the root package, which is published with it.
const OF_THE_ROOT: &str = "docs/conformance.md";

#[test]
fn every_page_with_rust_code_is_compiled() {
    let files = markdown::files().expect("the files are read");
    let with_rust = files.iter().filter(|(path, text)| {
        let is_rust = |block: &markdown::Block| block.info.split(',').next() == Some("rust");
        path.starts_with("docs/") && markdown::split(text).1.iter().any(is_rust)
    });
    let with_rust: BTreeSet<_> = with_rust
        .map(|(path, _)| path.as_str())
        .filter(|path| *path != OF_THE_ROOT)
        .collect();
    assert_eq!(with_rust, PAGES.iter().copied().collect());
}

#[test]
fn no_rust_code_is_left_out_of_compilation() {
    let files = markdown::files().expect("the files are read");
    for (path, text) in files {
        for block in markdown::split(&text).1 {
            let attributes: Vec<_> = block.info.split(',').map(str::trim).collect();
            assert!(
                attributes[0] != "rust" || !attributes.contains(&"ignore"),
                "{path}: {}",
                block.code
            );
        }
    }
}

#[test]
fn the_index_has_every_page() {
    let files = markdown::files().expect("the files are read");
    let index = &files["docs/README.md"];
    let pages = files.keys().filter_map(|path| path.strip_prefix("docs/"));
    let missing: Vec<_> = pages
        .filter(|page| *page != "README.md" && !index.contains(&format!("]({page})")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn permissions_are_those_of_the_provider_s_readme() {
    let files = markdown::files().expect("the files are read");
    for (page, provider) in [
        ("rds-iam", "rds-iam"),
        ("secrets-manager", "secrets-manager"),
        ("vault", "vault"),
    ] {
        let readme = &files[&format!("providers/{provider}/README.md")];
        let page = &files[&format!("docs/backends/{page}.md")];
        let is_permission = |block: &markdown::Block| match block.info.as_str() {
            "json" => block.code.contains("\"Statement\""),
            "hcl" | "sql" => true,
            _ => false,
        };
        let blocks = markdown::split(page).1;
        let permissions: Vec<_> = blocks.iter().filter(|block| is_permission(block)).collect();
        assert!(!permissions.is_empty(), "{provider}");
        for block in permissions {
            assert!(readme.contains(&block.code), "{provider}: {}", block.code);
        }
    }
}
