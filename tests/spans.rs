//! The spans of one rotation, by replacement and in place.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use claviger::lease::OldConnections;
use claviger_fixtures::{Scripted, backend_down, rejection};
use claviger_testkit::{ScriptedPools, ScriptedProvider};
use tokio::time::sleep;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

#[derive(Clone, Default)]
struct Tree(Arc<Mutex<Vec<Recorded>>>);

struct Recorded {
    id: u64,
    name: &'static str,
    parent: Option<u64>,
    follows: Option<u64>,
    fields: BTreeMap<&'static str, String>,
}

impl tracing::field::Visit for Recorded {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        self.fields
            .insert(field.name(), format!("{value:?}").replace('"', ""));
    }
}

impl<S: tracing::Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Tree {
    fn on_new_span(
        &self,
        attributes: &tracing::span::Attributes<'_>,
        id: &tracing::Id,
        context: Context<'_, S>,
    ) {
        if !attributes.metadata().target().starts_with("claviger") {
            return;
        }
        let parent = context
            .span(id)
            .and_then(|span| span.parent())
            .map(|parent| parent.id().into_u64());
        let mut span = Recorded {
            id: id.into_u64(),
            name: attributes.metadata().name(),
            parent,
            follows: None,
            fields: BTreeMap::new(),
        };
        attributes.record(&mut span);
        self.0.lock().expect("no panic").push(span);
    }

    fn on_record(&self, id: &tracing::Id, values: &tracing::span::Record<'_>, _: Context<'_, S>) {
        // Ids are reused: the latest span of an id is meant.
        if let Some(span) = self
            .0
            .lock()
            .expect("no panic")
            .iter_mut()
            .rev()
            .find(|span| span.id == id.into_u64())
        {
            values.record(span);
        }
    }

    fn on_follows_from(&self, id: &tracing::Id, follows: &tracing::Id, _: Context<'_, S>) {
        if let Some(span) = self
            .0
            .lock()
            .expect("no panic")
            .iter_mut()
            .rev()
            .find(|span| span.id == id.into_u64())
        {
            span.follows = Some(follows.into_u64());
        }
    }
}

impl Tree {
    /// Returns the spans since the last call as an indented text.
    fn take(&self) -> String {
        let spans = std::mem::take(&mut *self.0.lock().expect("no panic"));
        let mut text = String::new();
        for (index, root) in spans
            .iter()
            .enumerate()
            .filter(|(_, span)| span.parent.is_none())
        {
            show(&spans, index, root, 0, &mut text);
        }
        text
    }
}

fn show(spans: &[Recorded], index: usize, span: &Recorded, depth: usize, text: &mut String) {
    let fields = span
        .fields
        .iter()
        .map(|(name, value)| format!(" {name}={value}"))
        .collect::<String>();
    let linked = span
        .follows
        .and_then(|id| spans.iter().find(|other| other.id == id))
        .map(|other| format!(" follows from {}", other.name));
    let _ = writeln!(
        text,
        "{:indent$}{}{fields}{}",
        "",
        span.name,
        linked.unwrap_or_default(),
        indent = depth * 2
    );
    for (at, child) in spans
        .iter()
        .enumerate()
        .skip(index + 1)
        .filter(|(_, child)| child.parent == Some(span.id))
    {
        show(spans, at, child, depth + 1, text);
    }
}

/// Registers one pool and discards the spans of its first rotation.
async fn fixture(tree: &Tree, provider: ScriptedProvider) -> Scripted {
    let scripted = Scripted::with_database(provider, ScriptedPools::new(10)).await;
    tree.take();
    scripted
}

fn subscribe(tree: &Tree) -> tracing::subscriber::DefaultGuard {
    tracing::subscriber::set_default(tracing_subscriber::registry().with(tree.clone()))
}

#[tokio::test(start_paused = true)]
async fn a_replacement_records_its_spans() {
    let tree = Tree::default();
    let _guard = subscribe(&tree);
    let Scripted { lab, provider, .. } = fixture(&tree, ScriptedProvider::new()).await;
    provider.rotate();
    lab.supervisor.rotate_now("login").await.expect("a report");
    sleep(Duration::from_secs(1)).await;
    insta::assert_snapshot!(tree.take(), @r"
    credential.rotation generation=2 outcome=adopted provider=login revision=d4735e3a trigger=manual
      credential.fetch otel.kind=client provider=login trigger=manual
      pool.handover generation=2 mode=replace pool=orders revision=d4735e3a
        pool.verify otel.kind=client
        pool.open
        pool.warm connections=1
        pool.publish generation=2
    pool.drain generation=1 pool=orders follows from credential.rotation
    ");
}

#[tokio::test(start_paused = true)]
async fn a_handover_in_place_records_its_spans() {
    let tree = Tree::default();
    let _guard = subscribe(&tree);
    let Scripted { lab, provider, .. } = fixture(
        &tree,
        ScriptedProvider::new().with_old_connections(OldConnections::Keep),
    )
    .await;
    provider.rotate();
    lab.supervisor.rotate_now("login").await.expect("a report");
    sleep(Duration::from_secs(1)).await;
    insta::assert_snapshot!(tree.take(), @r"
    credential.rotation generation=2 outcome=adopted provider=login revision=d4735e3a trigger=manual
      credential.fetch otel.kind=client provider=login trigger=manual
      pool.handover generation=2 mode=in_place pool=orders revision=d4735e3a
        pool.verify otel.kind=client
        pool.open
        pool.publish generation=2
    ");
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_is_marked_on_its_own_spans() {
    let tree = Tree::default();
    let _guard = subscribe(&tree);
    let Scripted {
        lab: _lab,
        provider,
        database,
        pool,
        ..
    } = fixture(&tree, ScriptedProvider::new()).await;
    // A recently verified lease would be verified again before a fetch.
    sleep(Duration::from_secs(11)).await;
    // The retried fetch follows the verification, which is due after about a second.
    let down = backend_down();
    provider.fail_next(1, down.with_retry_after(Duration::from_millis(1_500)));
    provider.rotate();
    database.accept_only(["password-2"]);
    database.fail_next(
        1,
        claviger::error::ConnectError::new(
            claviger::error::ConnectErrorKind::Unreachable,
            "connection refused",
        ),
    );
    let rejection = rejection();
    assert!(pool.rejected(1, &rejection));
    sleep(Duration::from_secs(10)).await;
    insta::assert_snapshot!(tree.take(), @r"
    credential.rotation generation=2 outcome=adopted provider=login revision=d4735e3a trigger=rejected
      credential.fetch error.type=unavailable otel.kind=client provider=login trigger=rejected
      pool.handover error.type=unreachable pool=orders revision=6b86b273
        pool.verify error.type=unreachable otel.kind=client
      credential.fetch otel.kind=client provider=login trigger=rejected
      pool.handover generation=2 mode=replace pool=orders revision=d4735e3a
        pool.verify otel.kind=client
        pool.open
        pool.warm connections=1
        pool.publish generation=2
    pool.drain generation=1 pool=orders follows from credential.rotation
    ");
}
