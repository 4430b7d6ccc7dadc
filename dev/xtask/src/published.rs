//! Checks of the published crates: what a user finds in a package, and the order of a release.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use crate::manifest;
use crate::workspace::{member_folders, read, root};

/// A member that is published.
struct Package {
    folder: PathBuf,
    manifest: String,
    name: String,
}

fn published() -> Result<Vec<Package>, Box<dyn Error>> {
    let mut packages = Vec::new();
    for folder in member_folders(&root())? {
        let manifest = read(&folder.join("Cargo.toml"))?;
        if manifest.contains("publish = false") {
            continue;
        }
        let name = manifest::string(&manifest, "package", "name").ok_or("a package has no name")?;
        packages.push(Package {
            folder,
            manifest,
            name,
        });
    }
    Ok(packages)
}

/// Returns what a package lacks.
fn missing(package: &Package) -> Vec<&'static str> {
    let list = |key| manifest::list(&package.manifest, "package", key).unwrap_or_default();
    let includes = |file: &str| {
        let include = list("include");
        let pattern = format!("/{}", file.replace("APACHE", "*").replace("MIT", "*"));
        package.folder.join(file).exists() && (include.is_empty() || include.contains(&pattern))
    };
    let has_features = manifest::has_table(&package.manifest, "features");
    let shows_features = manifest::has_table(&package.manifest, "package.metadata.docs.rs");
    [
        (
            "one to five keywords",
            (1..=5).contains(&list("keywords").len()),
        ),
        ("categories", !list("categories").is_empty()),
        (
            "a description",
            manifest::string(&package.manifest, "package", "description").is_some(),
        ),
        ("README.md", includes("README.md")),
        ("LICENSE-APACHE", includes("LICENSE-APACHE")),
        ("LICENSE-MIT", includes("LICENSE-MIT")),
        (
            "[package.metadata.docs.rs]",
            !has_features || shows_features,
        ),
    ]
    .into_iter()
    .filter_map(|(item, has)| (!has).then_some(item))
    .collect()
}

/// Returns the published crates that a manifest names as dependencies with a version, those of its
/// tests included. A dependency by path alone is not part of the package.
fn dependencies(package: &Package, names: &BTreeSet<&str>) -> BTreeSet<String> {
    let lines = package.manifest.lines();
    lines
        .filter_map(|line| {
            let (name, value) = line.split_once([' ', '.', '='])?;
            let in_workspace = value.contains("workspace = true");
            (in_workspace && names.contains(name) && name != package.name).then(|| name.to_owned())
        })
        .collect()
}

fn release_order(guide: &str) -> Vec<&str> {
    let prefix = "cargo publish -p ";
    guide
        .lines()
        .filter_map(|line| line.strip_prefix(prefix))
        .collect()
}

#[test]
fn a_package_has_what_a_user_needs() -> Result<(), Box<dyn Error>> {
    let packages = published()?;
    assert!(packages.len() > 10, "{} packages found", packages.len());
    for package in &packages {
        assert_eq!(missing(package), [""; 0], "{} lacks these", package.name);
    }
    Ok(())
}

#[test]
fn crates_are_released_after_those_that_they_depend_on() -> Result<(), Box<dyn Error>> {
    let guide = fs::read_to_string(root().join("RELEASING.md"))?;
    let order = release_order(&guide);
    let packages = published()?;
    let names: BTreeSet<_> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), names);
    assert_eq!(order.len(), names.len(), "a crate is listed twice");
    let position = |name: &str| order.iter().position(|listed| *listed == name);
    for package in &packages {
        for needed in dependencies(package, &names) {
            assert!(
                position(&needed) < position(&package.name),
                "{} depends on {needed}",
                package.name
            );
        }
    }
    Ok(())
}

#[test]
fn dependencies_by_path_are_not_part_of_a_package() {
    let package = Package {
        folder: Path::new(".").to_path_buf(),
        manifest: "claviger.workspace = true\nclaviger-a = { workspace = true }\nclaviger-b = { path = \"b\" }\n"
            .to_owned(),
        name: "claviger-c".to_owned(),
    };
    let names = BTreeSet::from(["claviger", "claviger-a", "claviger-b", "claviger-c"]);
    let found = dependencies(&package, &names);
    assert_eq!(
        found,
        BTreeSet::from(["claviger".into(), "claviger-a".into()])
    );
}
