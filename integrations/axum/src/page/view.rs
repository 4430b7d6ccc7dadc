//! What the page shows, as elements.

mod feed;
mod tables;

use claviger::lease::Timestamp;
use claviger::status::{Readiness, Status};

use super::format::{count, since};
use super::history::History;
use super::node::{Node, node};
use super::problem::{FIRST_MINUTE, HELD, manual};

/// What the page shows, at one time.
pub(super) struct Snapshot<'s> {
    pub(super) now: Timestamp,
    pub(super) status: &'s Status,
    pub(super) readiness: &'s Readiness,
    pub(super) history: &'s History,
}

/// How a state is marked: by a shape and a colour beside its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Good,
    Note,
    Warn,
    Bad,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "state good",
            Self::Note => "state note",
            Self::Warn => "state warn",
            Self::Bad => "state bad",
        }
    }
}

/// Returns a state: a word after a shape, which the style adds.
fn state(tone: Tone, word: impl AsRef<str>) -> Node {
    node("span").class(tone.class()).text(word)
}

impl Snapshot<'_> {
    /// Returns the title of the page's tab.
    pub(super) fn title(&self) -> &'static str {
        if self.readiness.ready {
            "Ready · Claviger"
        } else {
            "Not ready · Claviger"
        }
    }

    /// Returns the children of `<main>`.
    pub(super) fn main(&self) -> Vec<Node> {
        let left = node("div").key("left").class("left");
        let right = node("div").key("right").class("right");
        vec![
            self.summary(),
            self.problems(),
            left.child(self.providers()).child(self.pools()),
            right.child(self.rotations()).children(self.ended_errors()),
        ]
    }

    fn summary(&self) -> Node {
        let (tone, word) = if self.status.shutting_down {
            (Tone::Bad, "Shut down")
        } else if self.readiness.ready {
            (Tone::Good, "Ready")
        } else {
            (Tone::Bad, "Not ready")
        };
        let headline = node("p")
            .key("headline")
            .class("headline")
            .with("role", "status")
            .child(state(tone, word));
        let summary = section("summary", "Summary", "visually-hidden");
        summary
            .child(headline)
            .children(self.reasons())
            .children(self.notes())
            .child(self.facts())
    }

    /// Returns the reasons for not being ready, with a link to the manual.
    fn reasons(&self) -> Option<Node> {
        let reasons = &self.readiness.reasons;
        if reasons.is_empty() {
            return None;
        }
        let link = node("a")
            .with("href", manual(FIRST_MINUTE))
            .with("rel", "noreferrer")
            .text("What to do, in the operators' manual");
        let list = node("ul").children(grouped(reasons).iter().map(|line| node("li").text(line)));
        let reasons = node("div").key("reasons").class("reasons");
        Some(reasons.child(list).child(node("p").child(link)))
    }

    /// Returns what an operator should know that does not end readiness: held providers.
    fn notes(&self) -> Option<Node> {
        let notes = &self.readiness.notes;
        if notes.is_empty() {
            return None;
        }
        let link = node("a")
            .with("href", manual(HELD))
            .with("rel", "noreferrer")
            .text("What it means, in the operators' manual");
        let list = node("ul").children(grouped(notes).iter().map(|line| node("li").text(line)));
        let notes = node("div").key("notes").class("reasons");
        Some(notes.child(list).child(node("p").child(link)))
    }

    /// Returns the numbers over all pools.
    fn facts(&self) -> Node {
        let pools = &self.status.pools;
        let serving: u32 = pools.iter().map(|pool| pool.connections).sum();
        let most: u32 = pools.iter().map(|pool| pool.max_connections).sum();
        let draining = pools.iter().flat_map(|pool| &pool.draining);
        let draining: u32 = draining.map(|drain| drain.connections).sum();
        let problems = self.present_errors().count();
        let last = self.history.rotations().next();
        let last = match last {
            Some(last) => since(self.now.wall(), last.started + last.took),
            None => node("span").text("none yet"),
        };
        let number = |number: u32| node("span").text(number.to_string());
        let facts = [
            ("Providers", count_of(self.status.providers.len())),
            ("Pools", count_of(pools.len())),
            (
                "Connections serving",
                node("span")
                    .text(serving.to_string())
                    .child(node("small").text(format!(" of {most}"))),
            ),
            ("Draining", number(draining)),
            ("Problems", count_of(problems)),
            ("Last rotation", last),
        ];
        node("dl")
            .key("facts")
            .class("facts")
            .children(facts.into_iter().map(|(name, value)| {
                let fact = node("div").child(node("dt").text(name));
                fact.child(node("dd").child(value))
            }))
    }
}

/// Returns the reasons, each kind once: what fifty pools have in common is one line.
fn grouped(reasons: &[String]) -> Vec<String> {
    // Names are in quotes.
    let kind = |reason: &str| {
        let before = reason.split('"').next().unwrap_or_default().to_owned();
        let after = reason.rsplit('"').next().unwrap_or_default().to_owned();
        (before, after)
    };
    let mut groups: Vec<(_, &String, usize)> = Vec::new();
    for reason in reasons {
        let kind = kind(reason);
        match groups.iter_mut().find(|(known, ..)| *known == kind) {
            Some((.., number)) => *number += 1,
            None => groups.push((kind, reason, 1)),
        }
    }
    let groups = groups.into_iter();
    let lines = groups.map(|(_, first, number)| match number {
        1 => first.clone(),
        _ => format!("{first}, and {} more like it", number - 1),
    });
    lines.collect()
}

fn count_of(number: usize) -> Node {
    node("span").text(number.to_string())
}

/// Returns a section that its heading names.
fn section(id: &'static str, heading: &str, class: &'static str) -> Node {
    let heading_id = format!("{id}-heading");
    node("section")
        .key(id)
        .with("id", id)
        .with("aria-labelledby", heading_id.clone())
        .child(node("h2").with("id", heading_id).class(class).text(heading))
}

/// Returns a list of names in one line: at most `most`, then how many more there are.
fn names<'n>(names: impl ExactSizeIterator<Item = &'n str>, most: usize) -> String {
    let more = names.len().saturating_sub(most);
    let mut text = String::new();
    for (at, name) in names.take(most).enumerate() {
        if at > 0 {
            text.push_str(", ");
        }
        text.push_str(name);
    }
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// Returns `Provider` or `Pools` with the names.
fn owners(owner: &str, list: &[&str]) -> String {
    let noun = count(list.len(), owner);
    let noun = noun.split_once(' ').map_or(owner, |(_, noun)| noun);
    format!("{noun} {}", names(list.iter().copied(), 5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_one_kind_are_one_line() {
        let reasons = [
            "provider \"a\" has no lease",
            "pool \"a \"quoted\" name\" has verified no lease",
            "pool \"b\" has verified no lease",
            "pool \"c\" has verified no lease",
            "this instance is about to shut down",
        ];
        let lines = grouped(&reasons.map(str::to_owned));
        assert_eq!(
            lines,
            [
                "provider \"a\" has no lease",
                "pool \"a \"quoted\" name\" has verified no lease, and 2 more like it",
                "this instance is about to shut down",
            ]
        );
    }

    #[test]
    fn many_names_are_cut() {
        let list = ["a", "b", "c", "d", "e", "f", "g"];
        assert_eq!(owners("Pool", &list), "Pools a, b, c, d, e and 2 more");
        assert_eq!(owners("Provider", &list[..1]), "Provider a");
    }
}
