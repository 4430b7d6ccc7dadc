//! `cargo xtask figures`.

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;

use claviger_servers::Server;

use crate::{CANNOT_START, cargo, provide, workspace};

/// The spans of a rotation, in the workspace's folder.
const SPANS: &str = "docs/figures/rotation.jsonl";
const DEMO: [&str; 10] = [
    "run",
    "--package",
    "claviger-demo",
    "--no-default-features",
    "--features",
    "sqlx,traces",
    "--",
    "--jaeger",
    "--json",
    "--seconds=6",
];
const DRAW: [&str; 3] = ["run", "--package", "claviger-figures"];

/// Runs the demo, keeps the spans of its last rotation, and draws the pictures of the
/// documentation. With `--draw` it draws what is there.
pub(crate) fn draw_figures(arguments: &[OsString]) -> Result<ExitCode, Box<dyn Error>> {
    match arguments {
        [] => {
            if !provide::install_missing([Server::PostgreSql, Server::Jaeger]).is_empty() {
                return Ok(ExitCode::from(CANNOT_START));
            }
            let spans = spans_in(&cargo::output_of(&DEMO)?);
            if spans.is_empty() {
                return Err("the demo has written no span".into());
            }
            fs::write(workspace::root().join(SPANS), spans)?;
        }
        [draw] if draw == "--draw" => {}
        _ => {
            eprintln!("error: figures takes no argument but --draw");
            return Ok(ExitCode::from(CANNOT_START));
        }
    }
    match cargo::become_cargo(DRAW)? {}
}

/// Returns the lines of the spans.
fn spans_in(events: &str) -> String {
    let is_span = |line: &&str| line.contains(r#""event":"span""#);
    events
        .lines()
        .filter(is_span)
        .map(|line| format!("{line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_spans_are_kept() {
        let events = "{\"seconds\":1.0,\"event\":\"note\"}\n\
                      {\"seconds\":2.0,\"event\":\"span\",\"name\":\"pool.drain\"}\n\
                      {\"seconds\":2.0,\"event\":\"result\"}\n";
        assert_eq!(
            spans_in(events),
            "{\"seconds\":2.0,\"event\":\"span\",\"name\":\"pool.drain\"}\n"
        );
    }
}
