//! What happened: problems, rotations as a timeline, and errors that have ended.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use claviger::report::{HandoverReport, RotationOutcome, RotationReport, RotationTrigger};

use super::super::format::{count, since, time_of_day, took, until};
use super::super::history::{PastError, present_names};
use super::super::node::{Node, node};
use super::super::problem::Owner;
use super::{Snapshot, Tone, names, owners, section, state};

/// Number of rotations that are shown.
const ROTATIONS: usize = 50;

/// Time after which an error is a problem. A rejection is often the first sign of a rotation, and
/// ends with it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Length of the longest bar.
const BAR: f64 = 1_000.0;

impl Snapshot<'_> {
    /// Returns the errors that last, with the providers or pools that have them.
    pub(super) fn present_errors(&self) -> impl Iterator<Item = (&PastError, Vec<Arc<str>>)> {
        let errors = self.history.errors().iter();
        errors.filter_map(|error| {
            let lasts = error.lasted(self.now)?;
            let names: Vec<_> = present_names(self.status, &error.cause)
                .into_iter()
                .collect();
            (lasts >= PATIENCE && !names.is_empty()).then_some((error, names))
        })
    }

    pub(super) fn problems(&self) -> Node {
        let mut present: Vec<_> = self.present_errors().collect();
        // The order of their begin, so that a repeated one stays where it is.
        present.sort_by_key(|(error, _)| error.present_since.map(|since| since.mono()));
        let problems = section("problems", "Problems", "");
        if present.is_empty() {
            return problems.child(node("p").class("none").text("None."));
        }
        problems.children(
            present
                .iter()
                .map(|(error, names)| self.problem(error, names, true)),
        )
    }

    /// Returns the errors that have ended, folded.
    pub(super) fn ended_errors(&self) -> Option<Node> {
        let present: Vec<_> = self
            .present_errors()
            .map(|(error, _)| error.first)
            .collect();
        let ended: Vec<_> = self
            .history
            .errors()
            .iter()
            .filter(|error| !present.contains(&error.first) || error.present_since.is_none())
            .collect();
        if ended.is_empty() {
            return None;
        }
        let summary = node("summary").text(count(ended.len(), "earlier error"));
        let errors = ended.iter().map(|error| {
            let names: Vec<_> = error.names.iter().cloned().collect();
            self.problem(error, &names, false)
        });
        Some(
            node("details")
                .key("ended")
                .class("ended")
                .child(summary)
                .children(errors),
        )
    }

    fn problem(&self, error: &PastError, names: &[Arc<str>], lasts: bool) -> Node {
        let cause = &error.cause;
        let tone = if lasts { Tone::Bad } else { Tone::Note };
        let owner = match cause.owner() {
            Owner::Provider => "Provider",
            Owner::Pool => "Pool",
            Owner::Actor => "Actor",
        };
        let list: Vec<&str> = names.iter().map(|name| &**name).collect();
        let key = format!("{:?}", (cause.heading(), cause.words(), cause.message()));
        let mut heading = node("h3").child(state(tone, cause.heading()));
        if let Some(words) = cause.words() {
            heading = heading.child(node("code").text(words));
        }
        let mut problem = node("article").key(key).class("problem").child(heading);
        problem = problem.child(node("p").class("who").text(owners(owner, &list)));
        if let Some(message) = cause.message() {
            problem = problem.child(node("p").class("message").text(message));
        }
        let link = node("a")
            .with("href", cause.manual())
            .with("rel", "noreferrer")
            .text("Operators' manual");
        let mut advice = node("p").class("advice");
        if let Some(of_manual) = cause.advice() {
            let sentence = |text: &str| {
                let mut letters = text.chars();
                let first = letters.next().map(|first| first.to_uppercase().to_string());
                format!("{}{}. ", first.unwrap_or_default(), letters.as_str())
            };
            let meaning = node("span")
                .class("meaning")
                .text(sentence(of_manual.meaning));
            let action = node("span").text(sentence(of_manual.action));
            advice = advice.child(meaning).child(action);
        }
        problem
            .child(advice.child(link))
            .child(self.when(error, names, lasts))
    }

    /// Returns since when, how often, and when the next attempt is due.
    fn when(&self, error: &PastError, names: &[Arc<str>], lasts: bool) -> Node {
        let begin = error.present_since.filter(|_| lasts);
        let begin = begin.map_or(error.first, |since| since.wall());
        let mut when = node("p")
            .class("when")
            .text("Since ")
            .child(time_of_day(self.now.wall(), begin));
        if error.times > 1 {
            when = when.text(format!(", {} times", error.times));
        }
        when = when
            .text(", last ")
            .child(since(self.now.wall(), error.last));
        if let Some(next) = self.next_attempt(error, names).filter(|_| lasts) {
            when = when
                .text(", next attempt: ")
                .child(until(self.now.wall(), next));
        }
        when
    }

    fn next_attempt(&self, error: &PastError, names: &[Arc<str>]) -> Option<Duration> {
        let status = self.status;
        match error.cause.owner() {
            Owner::Provider => {
                let mut providers = status.providers.iter();
                providers.find(|one| names.contains(&one.name))?.next_fetch
            }
            Owner::Pool => {
                let pools = status.pools.iter();
                let pools = pools.filter(|one| names.contains(&one.name));
                pools.filter_map(|one| one.next_verification).min()
            }
            Owner::Actor => None,
        }
    }

    pub(super) fn rotations(&self) -> Node {
        let rotations = section("rotations", "Rotations", "");
        let shown: Vec<_> = self.history.rotations().take(ROTATIONS).collect();
        if shown.is_empty() {
            return rotations.child(node("p").class("none").text("None yet."));
        }
        let longest = shown.iter().map(|report| report.took).max();
        let longest = longest.unwrap_or_default();
        let items = shown
            .iter()
            .map(|report| rotation(self.now.wall(), report, longest));
        rotations
            .child(
                node("p")
                    .class("legend")
                    .text("Times are UTC, the latest first."),
            )
            .child(node("ol").class("timeline").children(items))
    }
}

/// Returns one rotation: when, what, and the time of its parts as a bar and as text.
fn rotation(now: SystemTime, report: &RotationReport, longest: Duration) -> Node {
    let key = format!("{}/{:?}", report.provider, report.started);
    let (tone, word) = match report.outcome {
        RotationOutcome::Adopted => (Tone::Good, "adopted"),
        RotationOutcome::Unchanged => (Tone::Note, "unchanged"),
        RotationOutcome::Superseded => (Tone::Note, "superseded"),
        RotationOutcome::Unfinished => (Tone::Warn, "unfinished"),
        other => (Tone::Note, other.as_str()),
    };
    let head = node("p")
        .class("rotation-head")
        .child(time_of_day(now, report.started))
        .child(node("strong").text(&*report.provider))
        .child(state(tone, word));
    let mut facts = vec![trigger(report.trigger).to_owned()];
    if let Some(revision) = &report.revision {
        facts.push(format!("revision {revision}"));
    }
    if !report.handovers.is_empty() {
        facts.push(count(report.handovers.len(), "pool"));
    }
    let mut item = node("li")
        .key(key)
        .class("rotation")
        .child(head)
        .child(node("p").class("rotation-facts").text(facts.join(" · ")))
        .child(bar(report, longest))
        .child(node("p").class("rotation-steps").text(steps(report)));
    if !report.waiting.is_empty() {
        let waiting: Vec<&str> = report.waiting.iter().map(|name| &**name).collect();
        let waiting = format!("Not adopted yet by {}", names(waiting.into_iter(), 5));
        item = item.child(node("p").class("rotation-waiting").text(waiting));
    }
    item
}

fn trigger(trigger: RotationTrigger) -> &'static str {
    match trigger {
        RotationTrigger::Start => "at the start",
        RotationTrigger::Schedule => "on schedule",
        RotationTrigger::Rejected => "after a rejection",
        RotationTrigger::Changed => "after a change",
        RotationTrigger::Manual => "manually",
        RotationTrigger::RollBack => "by a rollback",
        RotationTrigger::ClockJump => "after a clock jump",
        other => other.as_str(),
    }
}

/// Returns the time of each step; with several pools, of the slowest.
fn steps(report: &RotationReport) -> String {
    let mut text = format!("{}: fetch {}", took(report.took), took(report.fetch));
    let slowest = report.handovers.iter().max_by_key(|one| one.took);
    if let Some(slowest) = slowest {
        let HandoverReport {
            verify, open, warm, ..
        } = slowest;
        text.push_str(&format!(
            ", verify {}, open {}, warm {}",
            took(*verify),
            took(*open),
            took(*warm)
        ));
        if report.handovers.len() > 1 {
            text.push_str(&format!(" (slowest: {})", slowest.pool));
        }
    }
    text
}

/// Returns a bar as long as the rotation took, with the part of the fetch.
fn bar(report: &RotationReport, longest: Duration) -> Node {
    let share = |part: Duration| {
        let share = part.as_secs_f64() / longest.as_secs_f64().max(1e-6);
        (share * BAR).round().clamp(0.0, BAR)
    };
    let whole = share(report.took).max(8.0);
    let fetch = share(report.fetch).min(whole);
    let rect = |class, from: f64, to: f64| {
        node("rect")
            .class(class)
            .with("x", from.to_string())
            .with("width", (to - from).to_string())
            .with("height", "8")
    };
    node("svg")
        .class("bar")
        .with("viewBox", "0 0 1000 8")
        .with("preserveAspectRatio", "none")
        .with("aria-hidden", "true")
        .child(rect("bar-handover", fetch, whole))
        .child(rect("bar-fetch", 0.0, fetch))
}
