//! The operators' manual contains every kind of error, reason and log line, and the page about
//! monitoring every event. Needs no server.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use claviger::error::{Advice, ConnectErrorKind, ProviderErrorKind};

fn repository_path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(repository_path(path)).expect("it can be read")
}

fn manual() -> String {
    read("docs/operating.md")
}

/// Reads all sources below a folder.
fn read_sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            read_sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(join_strings(&fs::read_to_string(path).expect("text")));
        }
    }
}

/// Joins strings that continue on the next line.
fn join_strings(source: &str) -> String {
    let mut lines = source.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |joined, line| joined + line.trim_start())
}

/// Returns the texts in quotes.
fn quoted(source: &str) -> impl Iterator<Item = &str> {
    source.split('"').skip(1).step_by(2)
}

#[test]
fn every_kind_of_error_is_documented() {
    let manual = manual();
    let sources = [
        "src/error/mod.rs",
        "src/error/provider.rs",
        "src/error/connect.rs",
    ]
    .map(read);
    let kinds: Vec<_> = sources
        .iter()
        .flat_map(|source| {
            source
                .split("Self::")
                .filter_map(|arm| arm.split_once(" => \"")?.1.split_once("\",\n"))
        })
        .collect();
    assert!(kinds.len() >= 22, "{kinds:?}");
    for (kind, _) in kinds {
        assert!(
            manual.contains(&format!("`{kind}`")),
            "the kind {kind:?} is not in the manual"
        );
    }
}

/// Returns the manual's rows of a section as plain text: word, meaning, action.
fn rows(manual: &str, heading: &str) -> Vec<[String; 3]> {
    let (_, section) = manual.split_once(heading).expect("the section exists");
    let rows = section.lines().skip_while(|line| !line.starts_with("| `"));
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').collect();
            let cells = cells.iter().map(|cell| cell.trim().replace('`', ""));
            let cells: Vec<String> = cells.collect();
            cells.try_into().expect("three columns")
        })
        .collect()
}

#[test]
fn the_advice_of_each_kind_is_the_manual_s() {
    let manual = manual();
    let row = |word: &str, advice: Advice| [word, advice.meaning, advice.action].map(str::to_owned);
    let of_backends = ProviderErrorKind::ALL.iter();
    let of_backends = of_backends.map(|kind| row(kind.as_str(), kind.advice()));
    assert_eq!(
        rows(&manual, "### Errors of a backend"),
        of_backends.collect::<Vec<_>>()
    );
    let of_databases = ConnectErrorKind::ALL.iter();
    let of_databases = of_databases.map(|kind| row(kind.as_str(), kind.advice()));
    assert_eq!(
        rows(&manual, "### Errors of a database"),
        of_databases.collect::<Vec<_>>()
    );
}

#[test]
fn every_event_is_documented() {
    let (page, source) = (read("docs/monitoring.md"), read("src/events.rs"));
    let (_, events) = source
        .split_once("pub enum Event {\n")
        .expect("there are events");
    let (events, _) = events.split_once("\n}").expect("the list ends");
    let is_variant =
        |line: &&str| line.starts_with("    ") && line[4..].starts_with(char::is_uppercase);
    let variants: Vec<_> = events
        .lines()
        .filter(is_variant)
        .map(|line| line.trim().split(['(', ' ', ',']).next().expect("a name"))
        .collect();
    assert!(variants.len() >= 9, "{variants:?}");
    for variant in variants {
        assert!(
            page.contains(&format!("| `{variant}` |")),
            "the event {variant} is not in the page"
        );
    }
}

/// Replaces names in a format string by an ellipsis, and the margin by its default.
fn as_in_the_manual(format: &str) -> String {
    let mut parts = format.split('{');
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (value, text) = part.split_once('}').expect("a format string");
        written += if value.ends_with(":?") {
            "\"…\""
        } else {
            "5s"
        };
        written += text;
    }
    written
}

#[test]
fn every_reason_for_not_being_ready_is_documented() {
    let (manual, source) = (manual(), read("src/supervisor/readiness.rs"));
    let reasons: Vec<_> = source
        .split("reasons.push(")
        .skip(1)
        .filter_map(|rest| quoted(rest).next())
        .collect();
    assert!(reasons.len() >= 8, "{reasons:?}");
    for reason in reasons {
        let written = as_in_the_manual(reason);
        assert!(
            manual.contains(&format!("`{written}`")),
            "the reason {written:?} is not in the manual"
        );
    }
}

#[test]
fn every_log_line_from_info_on_is_documented() {
    let manual = manual();
    let mut all = Vec::new();
    for folder in ["src", "integrations/config/src"] {
        read_sources(&repository_path(folder), &mut all);
    }
    for crates in ["providers", "pools"] {
        for entry in fs::read_dir(repository_path(crates)).expect("a folder") {
            read_sources(&entry.expect("it can be read").path().join("src"), &mut all);
        }
    }
    all.push(read("integrations/axum/src/operations.rs"));
    all.push(read("integrations/otel/src/exports.rs"));
    let mut lines = 0;
    for source in &all {
        for level in ["tracing::info!(", "tracing::warn!(", "tracing::error!("] {
            for call in source.split(level).skip(1) {
                let (call, _) = call.split_once(");").expect("it ends");
                let message = quoted(call).last().expect("it has a message");
                // A message may have a placeholder. The manual has the part before it.
                let fixed = message.split('{').next().expect("there is a first part");
                assert!(
                    manual.contains(fixed),
                    "the log line {message:?} is not in the manual"
                );
                lines += usize::from(!fixed.is_empty());
            }
        }
    }
    assert!(lines >= 32, "{lines}");
    for message in [
        "rotated",
        "the backend returned the active credential again",
        "unchanged credentials verified again",
        "superseded by a newer rotation",
        "ended before every pool had a new credential",
    ] {
        assert!(
            manual.contains(&format!("`{message}")) || manual.contains(&format!("INFO {message}")),
            "{message}"
        );
    }
}

#[test]
fn the_sections_that_the_status_page_links_to_exist() {
    let manual = manual();
    let slug = |heading: &str| -> String {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        text.chars()
            .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-')
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    let headings: Vec<_> = manual
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(slug)
        .collect();
    let page = read("integrations/axum/src/page/problem.rs");
    let is_section = |text: &&str| text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'-'));
    let sections: Vec<_> = quoted(&page).filter(is_section).collect();
    assert!(sections.len() >= 5, "{sections:?}");
    for section in sections {
        assert!(
            headings.iter().any(|heading| heading == section),
            "{section}"
        );
    }
}
