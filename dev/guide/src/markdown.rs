//! Markdown files: which there are, their headings, links and blocks of code.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold no files of the repository.
const LEFT_OUT: [&str; 3] = [".git", "target", "node_modules"];

/// Returns the root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the Markdown files of the repository, by their paths in it, with their texts.
pub(crate) fn files() -> std::io::Result<BTreeMap<String, String>> {
    let (root, mut found) = (root(), BTreeMap::new());
    collect(&root, &root, &mut found)?;
    Ok(found)
}

fn collect(
    root: &Path,
    folder: &Path,
    found: &mut BTreeMap<String, String>,
) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if entry.file_type()?.is_dir() {
            if !LEFT_OUT.iter().any(|out| name == *out) {
                collect(root, &path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            let inside = path.strip_prefix(root).unwrap_or(&path);
            let inside = inside.to_string_lossy().replace('\\', "/");
            found.insert(inside, fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// A block of code between fences.
pub(crate) struct Block {
    /// The word after the opening fence, such as `rust`, and its attributes.
    pub(crate) info: String,
    /// The lines between the fences.
    pub(crate) code: String,
}

/// Splits a text into its prose, with an empty line for each line of code, and its blocks of code.
pub(crate) fn split(text: &str) -> (String, Vec<Block>) {
    let (mut prose, mut blocks) = (String::new(), Vec::<Block>::new());
    let mut fence: Option<String> = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let ticks: String = trimmed.chars().take_while(|c| *c == '`').collect();
        match &fence {
            None if ticks.len() >= 3 => {
                let info = trimmed.trim_start_matches('`').trim().to_owned();
                blocks.push(Block {
                    info,
                    code: String::new(),
                });
                fence = Some(ticks);
            }
            None => prose += line,
            Some(opened) if ticks.len() >= opened.len() && trimmed.trim_end() == ticks => {
                fence = None;
            }
            Some(_) => {
                if let Some(block) = blocks.last_mut() {
                    block.code += line;
                    block.code.push('\n');
                }
            }
        }
        prose.push('\n');
    }
    (prose, blocks)
}

/// Returns the anchors of the headings, as GitHub makes them.
pub(crate) fn anchors(prose: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    let mut counts = BTreeMap::<String, usize>::new();
    for line in prose.lines() {
        let text = line.trim_start_matches('#');
        if text.len() == line.len() || !text.starts_with(' ') {
            continue;
        }
        let anchor = anchor(&without_links(text.trim()));
        let count = counts.entry(anchor.clone()).or_default();
        anchors.push(match *count {
            0 => anchor,
            earlier => format!("{anchor}-{earlier}"),
        });
        *count += 1;
    }
    anchors
}

/// Returns the anchor of one heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    let lower = heading.to_lowercase();
    let kept = lower.chars().filter(kept);
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Replaces each link by its text.
fn without_links(text: &str) -> String {
    let (mut plain, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("](") {
        plain += before;
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    (plain + rest).replace('[', "")
}

/// Returns the targets of the links in a text without code blocks: `[text](target)`, and
/// definitions `[name]: target`.
pub(crate) fn links(prose: &str) -> Vec<String> {
    let prose = without_code_spans(prose);
    let mut links = Vec::new();
    for after in prose.split("](").skip(1) {
        if let Some((target, _)) = after.split_once(')') {
            let target = target.split_whitespace().next().unwrap_or_default();
            links.push(target.trim_matches(['<', '>']).to_owned());
        }
    }
    for line in prose.lines() {
        if let Some((name, target)) = line.trim().split_once("]: ")
            && name.starts_with('[')
        {
            links.push(target.trim().to_owned());
        }
    }
    links
}

/// Removes the content of code spans, because `[a](b)` is no link there.
fn without_code_spans(prose: &str) -> String {
    let mut parts = prose.split('`');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for (index, part) in parts.enumerate() {
        if index % 2 == 1 {
            plain += part;
        }
    }
    plain
}

#[test]
fn anchors_are_github_s() {
    let headings = "# Guide\n## sqlx 0.8\n### `LISTEN`/`NOTIFY`\n## A server (SQLSTATE 25006)\n\
                    ## [Unreleased](x.md)\n## Guide\n#no heading\n";
    assert_eq!(
        anchors(headings),
        [
            "guide",
            "sqlx-08",
            "listennotify",
            "a-server-sqlstate-25006",
            "unreleased",
            "guide-1"
        ]
    );
}

#[test]
fn links_are_found_outside_of_code() {
    let text = "A [page](a.md#b), an ![image](<c.svg> \"title\"), `[no](link)`.\n\n[name]: d.md\n\n\
                ```rust\n[no](code.md)\n```\n[`code`](e.md)\n";
    let (prose, blocks) = split(text);
    assert_eq!(links(&prose), ["a.md#b", "c.svg", "e.md", "d.md"]);
    assert_eq!((blocks.len(), blocks[0].info.as_str()), (1, "rust"));
    assert_eq!(blocks[0].code, "[no](code.md)\n");
}
