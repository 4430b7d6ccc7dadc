//! Draws the pictures in `docs/figures` from the measurements there and in
//! `docs/pools/comparison.md`. `cargo xtask figures` runs it.

#![expect(
    clippy::print_stderr,
    reason = "a command line program prints to its user"
)]

mod rotation;
mod svg;
mod window;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Any error.
type Problem = Box<dyn Error>;

fn main() -> ExitCode {
    match draw_all(&root()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn draw_all(root: &Path) -> Result<(), Problem> {
    for (name, picture) in pictures(root)? {
        fs::write(root.join("docs/figures").join(name), picture)?;
    }
    Ok(())
}

/// Returns the name and the text of each file.
fn pictures(root: &Path) -> Result<[(&'static str, String); 2], Problem> {
    let read = |name: &str| {
        fs::read_to_string(root.join(name)).map_err(|error| format!("{name}: {error}"))
    };
    let spans = read("docs/figures/rotation.jsonl")?;
    let pools = read("docs/pools/comparison.md")?;
    let peers = read("docs/figures/peers.csv")?;
    Ok([
        ("rotation.svg", rotation::draw(&rotation::parse(&spans)?)),
        ("window.svg", window::draw(&window::parse(&pools, &peers)?)),
    ])
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_committed_pictures_are_drawn_from_the_committed_measurements() {
        let root = root();
        for (name, picture) in pictures(&root).expect("the measurements are complete") {
            svg::check::picture(&picture);
            let path = root.join("docs/figures").join(name);
            let committed = fs::read_to_string(path).expect("it exists");
            assert!(
                committed == picture,
                "{name}: run cargo xtask figures --draw"
            );
        }
    }
}
