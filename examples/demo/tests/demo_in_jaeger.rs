//! needs: postgresql, jaeger
//!
//! Traces of the demo in a real Jaeger. Every rotation is a consistent trace, and none contains a
//! password.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::Duration;

use claviger_servers::Jaeger;
use claviger_traces::{Span, check_handovers, linked_to, pre_order, spans, tree};

/// Spans of an adopted rotation, without failed attempts.
const ADOPTED: [(usize, &str); 6] = [
    (0, "credential.rotation"),
    (1, "credential.fetch"),
    (1, "pool.handover"),
    (2, "pool.verify"),
    (2, "pool.open"),
    (2, "pool.publish"),
];

#[test]
fn every_rotation_of_the_demo_is_a_trace() {
    let jaeger = Jaeger::start().expect("Jaeger starts");
    let demo = Command::new(env!("CARGO_BIN_EXE_claviger-demo"))
        .args(["--seconds", "6", "--otlp", &jaeger.otlp_endpoint()])
        .output()
        .expect("it runs");
    let output = String::from_utf8_lossy(&demo.stdout);
    assert!(
        demo.status.success(),
        "{output}\n{}",
        String::from_utf8_lossy(&demo.stderr)
    );
    let result_line = output.lines().last().expect("there is output");
    let adopted: usize = result_line
        .split(", ")
        .find_map(|part| part.strip_suffix(" rotations")?.parse().ok())
        .expect("it counts them");
    assert!(
        adopted >= 2,
        "an announced and an unannounced change: {result_line}"
    );

    let (response, all) = traces_in(&jaeger, adopted);
    assert!(
        response.contains("credential.rotation") && !response.contains("password-"),
        "a trace contains a password"
    );
    let handovers = check_handovers(&all).expect("the traces add up");
    assert_eq!(handovers, adopted + 1, "one pool, and its first handover");

    let roots = |trigger: &str| {
        all.iter()
            .filter(|span| {
                span.name == "credential.rotation" && span.tag("trigger") == Some(trigger)
            })
            .collect::<Vec<_>>()
    };
    let [start] = roots("start").try_into().expect("it starts once");
    assert_eq!(start.tag("outcome"), Some("adopted"));
    let (changed, rejected) = (roots("changed"), roots("rejected"));
    assert!(
        !changed.is_empty() && !rejected.is_empty(),
        "both kinds of change happened"
    );
    // A reconcile after a rejection may read the changed file first. The watch then finds nothing
    // new.
    let adopted_roots: Vec<_> = [changed, rejected]
        .concat()
        .into_iter()
        .filter(|root| root.tag("outcome") == Some("adopted"))
        .collect();
    assert_eq!(adopted_roots.len(), adopted);
    for root in adopted_roots {
        let succeeded: Vec<_> = pre_order(&all, root)
            .into_iter()
            .filter(|(_, span)| span.tag("error").is_none())
            .collect();
        let shape: Vec<_> = succeeded
            .iter()
            .map(|(depth, span)| (*depth, span.name.as_str()))
            .filter(|(_, name)| *name != "pool.warm")
            .collect();
        // A late secret is fetched more than once.
        let fetches = shape
            .iter()
            .filter(|(_, name)| *name == "credential.fetch")
            .count();
        let with_one_fetch: Vec<_> = shape
            .iter()
            .enumerate()
            .filter(|(at, (_, name))| *name != "credential.fetch" || *at == 1)
            .map(|(_, span)| *span)
            .collect();
        assert!(
            fetches >= 1 && with_one_fetch == ADOPTED,
            "{}",
            tree(&all, root)
        );
        assert!(
            root.tag("generation").is_some()
                && root.tag("revision").is_some_and(|digest| digest.len() == 8)
        );
        let drains: Vec<_> = linked_to(&all, &root.trace)
            .into_iter()
            .filter(|span| span.name == "pool.drain")
            .collect();
        assert_eq!(
            drains.len(),
            1,
            "the old generation's drain is linked to it: {}",
            tree(&all, root)
        );
    }
}

/// Returns the response of Jaeger and its spans, once it has all rotations and drains. Those of
/// start and end are included.
fn traces_in(jaeger: &Jaeger, adopted: usize) -> (String, Vec<Span>) {
    let query = || {
        jaeger
            .get("/api/traces?service=claviger-demo&limit=1000")
            .expect("it responds")
    };
    (0..250)
        .map(|_| query())
        .map(|response| (spans(&response).expect("it is JSON"), response))
        .find(|(spans, _)| {
            let count = |name: &str| {
                spans
                    .iter()
                    .filter(|span| {
                        span.name == name
                            && span
                                .tag("outcome")
                                .is_none_or(|outcome| outcome == "adopted")
                    })
                    .count()
            };
            let is_complete =
                count("credential.rotation") > adopted && count("pool.drain") > adopted;
            if !is_complete {
                std::thread::sleep(Duration::from_millis(20));
            }
            is_complete
        })
        .map(|(spans, response)| (response, spans))
        .expect("all spans arrive within five seconds")
}
