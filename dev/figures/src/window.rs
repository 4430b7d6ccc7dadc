//! Failed calls and the longest outage in a rotation window: Claviger, plain pools, and other
//! libraries.

use crate::Problem;
use crate::svg::{Anchor, Svg, tick};

const WIDTH: f64 = 840.0;
/// Left and right end of the axis of outages.
const AXIS: (f64, f64) = (310.0, 630.0);
/// Right edge of the numbers of failed calls.
const FAILED: f64 = 820.0;
const TOP: f64 = 108.0;
const ROW: f64 = 24.0;
/// Height of the heading of a group.
const HEADING: f64 = 28.0;
/// The scenario, in both sources.
const SCENARIO: &str = "B";
/// Length of the window.
const WINDOW_MS: f64 = 5_000.0;
/// Kinds of pools that are left out: they are measured on another server.
const OTHER_SERVERS: [&str; 1] = ["redis"];

/// Result of one pool in the scenario.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    name: String,
    failed: u64,
    outage_ms: f64,
    /// Whether calls failed until the end.
    failed_until_the_end: bool,
}

/// Pools that were measured together.
#[derive(Debug)]
pub(crate) struct Group {
    heading: &'static str,
    class: &'static str,
    pools: Vec<Measured>,
}

/// Parses the tables of `cargo xtask bench --with pools`, and the other libraries' file.
///
/// # Errors
/// A figure is missing or not a number.
pub(crate) fn parse(pools: &str, peers: &str) -> Result<[Group; 3], Problem> {
    let (ours, plain) = parse_tables(pools)?;
    Ok([
        Group {
            heading: "Claviger",
            class: "green",
            pools: ours,
        },
        Group {
            heading: "Plain pools: password read once",
            class: "neutral",
            pools: plain,
        },
        Group {
            heading: "Other libraries, on another day",
            class: "blue",
            pools: parse_peers(peers)?,
        },
    ])
}

/// Parses the row of the scenario in each kind's table. Cells are `ours / plain`.
fn parse_tables(markdown: &str) -> Result<(Vec<Measured>, Vec<Measured>), Problem> {
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    let mut kind = "";
    for line in markdown.lines() {
        if line.starts_with('#') {
            kind = line.trim_start_matches('#').trim();
        }
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let is_row = cells.len() > 3 && cells[0].starts_with(&format!("{SCENARIO}:"));
        if !is_row || OTHER_SERVERS.contains(&kind) {
            continue;
        }
        let pair = |cell: &str| -> Result<(f64, f64), Problem> {
            let (ours, plain) = cell.split_once('/').ok_or_else(|| {
                format!("{kind}: {cell} is not a pair of figures, such as 0 / 7034")
            })?;
            Ok((ours.trim().parse()?, plain.trim().parse()?))
        };
        let (failed, outage) = (pair(cells[2])?, pair(cells[3])?);
        let measured = |failed: f64, outage_ms: f64| Measured {
            name: kind.to_owned(),
            failed: failed as u64,
            outage_ms,
            // The window is over after 5 s; only a pool that never recovers is down for longer.
            failed_until_the_end: outage_ms > 2.0 * WINDOW_MS,
        };
        ours.push(measured(failed.0, outage.0));
        plain.push(measured(failed.1, outage.1));
    }
    if ours.is_empty() {
        return Err(format!("there is no table with a row {SCENARIO}").into());
    }
    Ok((ours, plain))
}

/// Parses the rows of the scenario. Lines with `#` are comments; fields contain no comma.
fn parse_peers(csv: &str) -> Result<Vec<Measured>, Problem> {
    let mut lines = csv.lines().filter(|line| !line.starts_with('#'));
    let names: Vec<_> = lines.next().unwrap_or_default().split(',').collect();
    let mut found = Vec::new();
    for line in lines {
        let fields: Vec<_> = line.split(',').collect();
        let field = |name: &str| {
            let at = names.iter().position(|known| *known == name);
            at.and_then(|at| fields.get(at).copied())
                .ok_or_else(|| format!("there is no field {name} in: {line}"))
        };
        if field("scenario")? == SCENARIO {
            found.push(Measured {
                name: field("name")?.to_owned(),
                failed: field("failed_calls")?.parse()?,
                outage_ms: field("outage_ms")?.parse()?,
                failed_until_the_end: field("recovered")? == "no",
            });
        }
    }
    Ok(found)
}

pub(crate) fn draw(groups: &[Group]) -> String {
    let all = || groups.iter().flat_map(|group| &group.pools);
    let longest = all().map(|pool| pool.outage_ms).fold(WINDOW_MS, f64::max);
    let at = |ms: f64| AXIS.0 + (AXIS.1 - AXIS.0) * ms / longest;
    let height: f64 = groups
        .iter()
        .map(|group| HEADING + ROW * group.pools.len() as f64)
        .sum();
    let bottom = TOP + height;
    let mut picture = Svg::new(
        WIDTH,
        "A rotation window: longest outage and failed calls",
        &description(groups),
    );
    let subtitle = "The database has the new password 5 s before the backend hands it out, and all \
                    connections are terminated.";
    picture.text("small", 20.0, 52.0, Anchor::Start, subtitle);

    let step = tick(longest / 1_000.0);
    let mut mark = 0.0;
    while mark * 1_000.0 <= longest {
        let x = at(mark * 1_000.0);
        picture.vertical("grid", x, TOP, bottom);
        picture.text(
            "small",
            x,
            TOP - 6.0,
            Anchor::Middle,
            &format!("{mark:.0} s"),
        );
        mark += step;
    }
    picture.text(
        "small",
        AXIS.0 - 20.0,
        TOP - 6.0,
        Anchor::End,
        "longest outage",
    );
    picture.text("small", FAILED, TOP - 6.0, Anchor::End, "failed calls");
    let window = at(WINDOW_MS);
    picture.vertical("mark", window, TOP - 18.0, bottom);
    picture.text(
        "small",
        window,
        TOP - 23.0,
        Anchor::Middle,
        "end of the window",
    );

    let mut y = TOP;
    for group in groups {
        y += HEADING;
        picture.text("strong", 20.0, y - 8.0, Anchor::Start, group.heading);
        for pool in &group.pools {
            let (from, to) = (at(0.0), at(pool.outage_ms));
            picture.text("", 32.0, y + 12.0, Anchor::Start, &pool.name);
            picture.bar(group.class, from, y + 2.0, to - from, 12.0);
            let text = outage(pool);
            let label = to.max(from + 2.0) + 6.0;
            picture.text("small", label, y + 12.0, Anchor::Start, &text);
            picture.text(
                "code",
                FAILED,
                y + 12.0,
                Anchor::End,
                &pool.failed.to_string(),
            );
            y += ROW;
        }
    }
    let notes = [
        "16 callers without retries, 10 connections, PostgreSQL, Secrets Manager emulated by moto; \
         2 cores in both measurements.",
        "A pool whose callers wait for a connection fails fewer calls: compare the outages first.",
        "Sources: docs/pools/comparison.md (our run), docs/figures/peers.csv (other libraries). \
         Drawn by cargo xtask figures.",
    ];
    for (line, note) in notes.iter().enumerate() {
        let y = bottom + 20.0 + 17.0 * line as f64;
        picture.text("small", 20.0, y, Anchor::Start, note);
    }
    picture.finish(bottom + 70.0)
}

fn outage(pool: &Measured) -> String {
    let time = if pool.outage_ms < 1_000.0 {
        format!("{:.0} ms", pool.outage_ms)
    } else {
        format!("{:.1} s", pool.outage_ms / 1_000.0)
    };
    if pool.failed_until_the_end {
        format!("{time}, to the end")
    } else {
        time
    }
}

fn description(groups: &[Group]) -> String {
    let groups: Vec<_> = groups
        .iter()
        .map(|group| {
            let pools: Vec<_> = group
                .pools
                .iter()
                .map(|pool| {
                    format!(
                        "{} {}, {} failed calls",
                        pool.name,
                        outage(pool),
                        pool.failed
                    )
                })
                .collect();
            format!("{}: {}", group.heading, pools.join("; "))
        })
        .collect();
    format!(
        "Bars of the longest time without a served call. {}.",
        groups.join(". ")
    )
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::svg::check;

    const POOLS: &str = "## deadpool\n\n| scenario | calls served | failed calls | longest outage, \
        ms |\n|---|---|---|---|\n| A: changed | 9 / 9 = 1.00 | 0 / 1 | 1 / 2 |\n\
        | B: rotation window | 9 / 3 = 3.00 | 0 / 7034 | 6 / 11013 |\n\
        ## redis\n| B: rotation window | 9 / 3 = 3.00 | 17 / 3660 | 43 / 11988 |\n";
    const PEERS: &str = "# a comment, with a comma\nscenario,name,failed_calls,outage_ms,recovered\n\
        A,other,1,2,yes\nB,other & more,805,5125,yes\n";

    #[test]
    fn figures_of_the_window_are_read_from_both_sources() {
        let [ours, plain, others] = parse(POOLS, PEERS).expect("they are complete");
        let measured = |name: &str, failed, outage_ms, failed_until_the_end| Measured {
            name: name.to_owned(),
            failed,
            outage_ms,
            failed_until_the_end,
        };
        assert_eq!(ours.pools, [measured("deadpool", 0, 6.0, false)]);
        assert_eq!(plain.pools, [measured("deadpool", 7_034, 11_013.0, true)]);
        assert_eq!(
            others.pools,
            [measured("other & more", 805, 5_125.0, false)]
        );
    }

    #[test]
    fn every_bar_has_the_same_scale() {
        let groups = parse(POOLS, PEERS).expect("they are complete");
        let svg = draw(&groups);
        check::picture(&svg);
        let width = |ms: f64| (AXIS.1 - AXIS.0) * ms / 11_013.0;
        for (class, ms) in [("neutral", 11_013.0), ("blue", 5_125.0)] {
            let bar = svg
                .lines()
                .find(|line| line.contains(&format!("class=\"{class}\" ")));
            let bar = bar.expect("it is drawn");
            assert!(
                bar.contains(&format!("width=\"{:.1}\"", width(ms))),
                "{bar}"
            );
        }
        assert!(svg.contains("other &amp; more") && svg.contains(">7034</text>"));
    }

    #[test]
    fn missing_figures_are_errors_that_name_them() {
        let error = |pools: &str, peers: &str| {
            let problem = parse(pools, peers).expect_err("it is incomplete");
            problem.to_string()
        };
        assert!(error("", PEERS).contains("row B"));
        assert!(error(&POOLS.replace("0 / 7034", "7034"), PEERS).contains("deadpool"));
        assert!(error(POOLS, &PEERS.replace(",recovered", "")).contains("recovered"));
    }
}
