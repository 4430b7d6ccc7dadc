//! needs: postgresql, moto
//!
//! What a service notices of a rotation, of a changed password and of a store that is down, beside
//! what cannot be saved: calls to the store, and logins. All connections are cut at the start.
//! `cargo xtask bench --with secrets-manager` measures all; `… window` one of them; `--turns N`
//! takes N in place of 20, `--window S` another window than 5 s.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench that cannot measure says so by panicking, and prints what it measured"
)]

mod again;
mod down;

use std::time::Duration;

use claviger_fixtures::Figures;

fn main() {
    let mut arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let mut number = |name: &str, default: usize| {
        let Some(at) = arguments.iter().position(|argument| argument == name) else {
            return default;
        };
        let given = arguments.get(at + 1).and_then(|count| count.parse().ok());
        arguments.drain(at..(at + 2).min(arguments.len()));
        given.expect("the option takes a number")
    };
    let turns = number("--turns", 20);
    let window = Duration::from_secs(number("--window", 5) as u64);
    // A test run of all targets only wants to see that this starts.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let wanted =
        |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    let mut figures = Figures::default();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        if wanted("window") {
            again::measure(&mut figures, again::Case::Window(window), turns).await;
        }
        if wanted("changed") {
            again::measure(&mut figures, again::Case::Changed, turns).await;
        }
        if wanted("down") {
            down::measure(&mut figures, window).await;
        }
    });
    println!("\n{figures}");
}
