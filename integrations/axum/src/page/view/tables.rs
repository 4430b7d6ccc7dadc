//! Pools and providers, one row each.

use std::time::Duration;

use claviger::status::{PoolStatus, ProviderStatus};

use super::super::format::{took, until};
use super::super::node::{Node, node};
use super::{Snapshot, Tone, section, state};

/// Steps of the bar of the time to expiry, so that it changes seldom.
const STEPS: f64 = 50.0;

impl Snapshot<'_> {
    pub(super) fn pools(&self) -> Node {
        let pools = section("pools", "Pools", "");
        if self.status.pools.is_empty() {
            return pools.child(node("p").class("none").text("No pool is registered."));
        }
        let rows = self.status.pools.iter().map(|pool| self.pool(pool));
        pools.child(table("Pools", &POOL_COLUMNS, rows))
    }

    fn pool(&self, pool: &PoolStatus) -> Node {
        let (tone, word) = pool_state(pool);
        let busy = pool.connections.saturating_sub(pool.idle);
        let serving = node("span")
            .text(pool.connections.to_string())
            .child(node("small").text(format!(" of {}", pool.max_connections)));
        let handover = match &pool.last_handover {
            Some(last) => node("span").text(took(last.took)),
            None => dash(),
        };
        let cells = [
            node("span").class("name").text(&*pool.name),
            state(tone, word),
            node("small").text(&*pool.provider),
            node("span").text(pool.generation.to_string()),
            self.expiry(pool.remaining, pool.lifetime, pool.revision.is_some()),
            serving,
            node("span").text(busy.to_string()),
            draining(pool),
            handover,
        ];
        row(&pool.name, &POOL_COLUMNS, cells)
    }

    pub(super) fn providers(&self) -> Node {
        let providers = section("providers", "Providers", "");
        if self.status.providers.is_empty() {
            return providers.child(node("p").class("none").text("No provider is registered."));
        }
        let rows = self.status.providers.iter().map(|one| self.provider(one));
        providers.child(table("Providers", &PROVIDER_COLUMNS, rows))
    }

    fn provider(&self, provider: &ProviderStatus) -> Node {
        let (tone, word) = provider_state(provider);
        let revision = match &provider.revision {
            Some(digest) => node("code").text(digest),
            None => dash(),
        };
        let next = match provider.next_fetch {
            _ if provider.held.is_some() => node("span").text("held"),
            Some(next) => until(self.now.wall(), next),
            None => dash(),
        };
        let cells = [
            node("span").class("name").text(&*provider.name),
            state(tone, word),
            revision,
            self.expiry(
                provider.remaining,
                provider.lifetime,
                provider.revision.is_some(),
            ),
            next,
            node("span").text(provider.fetches.to_string()),
            node("span").text(provider.pools.len().to_string()),
            node("span").text(to_release(provider)),
        ];
        row(&provider.name, &PROVIDER_COLUMNS, cells)
    }

    /// Returns the time to expiry, with a bar of what is left of the lifetime.
    fn expiry(
        &self,
        remaining: Option<Duration>,
        lifetime: Option<Duration>,
        has_lease: bool,
    ) -> Node {
        let Some(remaining) = remaining else {
            return if has_lease {
                node("small").text("no expiry")
            } else {
                dash()
            };
        };
        let left = node("span")
            .class("expiry")
            .child(until(self.now.wall(), remaining));
        let Some(lifetime) = lifetime.filter(|lifetime| !lifetime.is_zero()) else {
            return left;
        };
        let share = remaining.as_secs_f64() / lifetime.as_secs_f64();
        let share = (share * STEPS).ceil().clamp(0.0, STEPS);
        let rect = |class, width: f64| {
            node("rect")
                .class(class)
                .with("width", width.to_string())
                .with("height", "2")
        };
        left.child(
            node("svg")
                .class("left-bar")
                .with("viewBox", "0 0 50 2")
                .with("preserveAspectRatio", "none")
                .with("aria-hidden", "true")
                .child(rect("bar-track", STEPS))
                .child(rect("bar-left", share)),
        )
    }
}

/// A column: its heading, and whether its values are numbers.
type Column = (&'static str, bool);

const POOL_COLUMNS: [Column; 9] = [
    ("Pool", false),
    ("State", false),
    ("Provider", false),
    ("Generation", true),
    ("Expires in", true),
    ("Serving", true),
    ("Busy", true),
    ("Draining", true),
    ("Handover", true),
];

const PROVIDER_COLUMNS: [Column; 8] = [
    ("Provider", false),
    ("State", false),
    ("Revision", false),
    ("Expires in", true),
    ("Next fetch", true),
    ("Fetches", true),
    ("Pools", true),
    ("To release", true),
];

/// Returns how many leases are to be released, apart from those that are kept.
fn to_release(provider: &ProviderStatus) -> String {
    match provider.kept {
        0 => provider.unreleased.to_string(),
        kept => format!("{} and {kept} kept", provider.unreleased),
    }
}

/// Returns the state of a pool in a word, from the gravest on.
fn pool_state(pool: &PoolStatus) -> (Tone, &'static str) {
    if pool.rejected {
        (Tone::Bad, "rejected")
    } else if pool.generation == 0 {
        match pool.last_error {
            Some(_) => (Tone::Bad, "no login yet"),
            None => (Tone::Note, "starting"),
        }
    } else if !pool.serving {
        (Tone::Bad, "expired")
    } else if pool.last_error.is_some() {
        (Tone::Warn, "login fails")
    } else if pool.rolled_back {
        (Tone::Warn, "rolled back")
    } else {
        (Tone::Good, "serving")
    }
}

/// Returns the state of a provider in a word, from the gravest on.
fn provider_state(provider: &ProviderStatus) -> (Tone, &'static str) {
    if provider.rejected {
        (Tone::Bad, "rejected")
    } else if provider.revision.is_none() {
        match provider.last_error {
            Some(_) => (Tone::Bad, "no lease"),
            None => (Tone::Note, "starting"),
        }
    } else if provider.remaining.is_some_and(|left| left.is_zero()) {
        (Tone::Bad, "expired")
    } else if provider.held.is_some() {
        (Tone::Warn, "held")
    } else if provider.last_error.is_some() {
        (Tone::Warn, "fetch fails")
    } else if provider.hanging > 0 {
        (Tone::Warn, "fetch hangs")
    } else {
        (Tone::Good, "valid")
    }
}

/// Returns the connections of old generations.
fn draining(pool: &PoolStatus) -> Node {
    let connections: u32 = pool.draining.iter().map(|drain| drain.connections).sum();
    let is_abandoned = pool.draining.iter().any(|drain| drain.abandoned);
    if is_abandoned {
        state(Tone::Warn, format!("{connections} overdue"))
    } else {
        node("span").text(connections.to_string())
    }
}

fn dash() -> Node {
    node("span").class("absent").text("–")
}

// The roles are written out, because the style shows rows as cards on a narrow screen, and browsers
// then forget what is a table.

fn table(name: &'static str, columns: &[Column], rows: impl Iterator<Item = Node>) -> Node {
    let heading = |(name, is_number): &Column| {
        node("th")
            .with("scope", "col")
            .with("role", "columnheader")
            .class(if *is_number { "number" } else { "" })
            .text(name)
    };
    let head = node("tr")
        .with("role", "row")
        .children(columns.iter().map(heading));
    node("table")
        .with("role", "table")
        .with("aria-label", name)
        .child(node("thead").with("role", "rowgroup").child(head))
        .child(node("tbody").with("role", "rowgroup").children(rows))
}

fn row<const N: usize>(key: &str, columns: &[Column; N], cells: [Node; N]) -> Node {
    let cells = columns.iter().zip(cells).enumerate();
    let cells = cells.map(|(at, ((name, is_number), content))| {
        let cell = if at == 0 {
            let cell = node("th").with("scope", "row");
            cell.with("role", "rowheader")
        } else {
            let cell = node("td").with("data-label", *name);
            cell.with("role", "cell")
        };
        cell.class(if *is_number { "number" } else { "" })
            .child(content)
    });
    node("tr").key(key).with("role", "row").children(cells)
}
