//! Reads strings and lists of strings from a `Cargo.toml`.
//!
//! This is no TOML parser. It reads what this workspace uses: tables in brackets, basic strings
//! without escapes, and comments. A missing value is `None`, never empty.

/// Returns the string at `key` in `[table]`.
pub(crate) fn string(manifest: &str, table: &str, key: &str) -> Option<String> {
    strings(&value(manifest, table, key)?).into_iter().next()
}

/// Returns the strings in the list at `key` in `[table]`.
pub(crate) fn list(manifest: &str, table: &str, key: &str) -> Option<Vec<String>> {
    let value = value(manifest, table, key)?;
    let inner = value.trim().strip_prefix('[')?.strip_suffix(']')?;
    Some(strings(inner))
}

/// Returns whether there is a `[table]`.
pub(crate) fn has_table(manifest: &str, table: &str) -> bool {
    manifest.lines().any(|line| header(line) == Some(table))
}

/// Returns the text after `key =`, to the end of the line or of the list.
fn value(manifest: &str, table: &str, key: &str) -> Option<String> {
    let mut lines = manifest
        .lines()
        .skip_while(|line| header(line) != Some(table))
        .skip(1);
    let first = lines
        .by_ref()
        .take_while(|line| header(line).is_none())
        .find_map(|line| {
            let (name, value) = without_comment(line).split_once('=')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })?;
    if !first.starts_with('[') {
        return Some(first);
    }
    let mut value = first;
    while !value.ends_with(']') {
        value.push_str(without_comment(lines.next()?).trim());
    }
    Some(value)
}

/// Returns `name` of a line `[name]`; `[[name]]` is a list of tables and does not match.
fn header(line: &str) -> Option<&str> {
    let name = without_comment(line)
        .trim()
        .strip_prefix('[')?
        .strip_suffix(']')?
        .trim();
    (!name.contains(['"', ','])).then_some(name)
}

fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let comment = line.find(|character| {
        quoted ^= character == '"';
        character == '#' && !quoted
    });
    comment.map_or(line, |comment| &line[..comment])
}

/// Returns the texts between quotes.
fn strings(text: &str) -> Vec<String> {
    text.split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
[workspace]
resolver = "3"
members = [
    "providers/file", # the only one yet
    "servers",
    # "left out",
    "a#b",
]

[workspace.package]
version = "0.1.0"

[package] # the root is a package too
name = "claviger" # and has a name

[[test]]
name = "tls"
"#;

    #[test]
    fn a_list_may_have_lines_and_comments() {
        let members = list(MANIFEST, "workspace", "members");
        assert_eq!(
            members,
            Some(vec![
                "providers/file".into(),
                "servers".into(),
                "a#b".into()
            ])
        );
        let short = list(
            "[workspace]\nmembers = [\"a\", \"b\"]\n",
            "workspace",
            "members",
        );
        assert_eq!(short, Some(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn a_string_is_read_from_its_own_table() {
        assert_eq!(
            string(MANIFEST, "package", "name").as_deref(),
            Some("claviger")
        );
        assert_eq!(
            string(MANIFEST, "workspace.package", "version").as_deref(),
            Some("0.1.0")
        );
        assert_eq!(string(MANIFEST, "workspace", "name"), None);
        assert_eq!(string(MANIFEST, "package", "version"), None);
    }

    #[test]
    fn tables_match_by_their_whole_name() {
        assert!(has_table(MANIFEST, "package"));
        assert!(!has_table(MANIFEST, "dependencies"));
        assert!(!has_table("[workspace.package]", "package"));
    }

    #[test]
    fn an_open_list_is_none() {
        assert_eq!(
            list("[workspace]\nmembers = [\"a\",\n", "workspace", "members"),
            None
        );
    }
}
