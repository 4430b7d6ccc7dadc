//! Checks the durations of spans.

use std::time::Duration;

use crate::Span;

/// Rounding error: Jaeger stores microseconds.
const ROUNDING: Duration = Duration::from_micros(2);

/// Checks that spans lie within their parents, in the same trace. The steps of a handover must be
/// complete and take no longer than the whole. Returns the number of handovers.
///
/// # Errors
/// A description of the first violation.
pub fn check_handovers(spans: &[Span]) -> Result<usize, String> {
    let mut handovers = 0;
    for span in spans {
        let children: Vec<_> = spans
            .iter()
            .filter(|child| child.parent.as_deref() == Some(&span.id))
            .collect();
        let stray = children.iter().find(|child| {
            child.trace != span.trace
                || child.start + ROUNDING < span.start
                || span.end() + ROUNDING < child.end()
        });
        if let Some(child) = stray {
            return Err(format!("{child:?} is not within {span:?}"));
        }
        if span.name == "pool.handover" && span.tag("mode").is_some() {
            handovers += 1;
            let steps: Vec<_> = children.iter().map(|child| child.name.as_str()).collect();
            if !steps.starts_with(&["pool.verify", "pool.open"])
                || !steps.ends_with(&["pool.publish"])
            {
                return Err(format!("{steps:?} are not the steps of a handover"));
            }
            let sum: Duration = children.iter().map(|child| child.took).sum();
            if sum > span.took + ROUNDING * 4 {
                return Err(format!("{steps:?} took {sum:?} of {:?}", span.took));
            }
        }
    }
    Ok(handovers)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    fn span(id: &str, name: &str, parent: Option<&str>, start: u64, took: u64) -> Span {
        Span {
            trace: "a".to_owned(),
            id: id.to_owned(),
            name: name.to_owned(),
            parent: parent.map(str::to_owned),
            links: Vec::new(),
            tags: [("mode".to_owned(), "replace".to_owned())].into(),
            start: Duration::from_micros(start),
            took: Duration::from_micros(took),
        }
    }

    fn handover() -> Vec<Span> {
        vec![
            span("1", "pool.handover", None, 100, 100),
            span("2", "pool.verify", Some("1"), 100, 50),
            span("3", "pool.open", Some("1"), 150, 20),
            span("4", "pool.publish", Some("1"), 170, 30),
        ]
    }

    #[test]
    fn spans_outside_their_parents_and_missing_steps_are_reported() {
        assert_eq!(check_handovers(&handover()), Ok(1));
        for (index, start, took) in [(1, 90, 50), (3, 170, 50), (2, 100, 100)] {
            let mut spans = handover();
            let span = spans.get_mut(index).expect("it is there");
            (span.start, span.took) = (Duration::from_micros(start), Duration::from_micros(took));
            assert!(check_handovers(&spans).is_err(), "{index}");
        }
        let mut other_trace = handover();
        other_trace.get_mut(1).expect("it is there").trace = "b".to_owned();
        assert!(
            check_handovers(&other_trace).is_err_and(|problem| problem.contains("is not within"))
        );
        let without_verification = handover()
            .into_iter()
            .filter(|span| span.name != "pool.verify")
            .collect::<Vec<_>>();
        assert!(
            check_handovers(&without_verification)
                .is_err_and(|problem| problem.contains("not the steps"))
        );
    }
}
