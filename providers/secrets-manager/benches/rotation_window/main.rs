//! needs: postgresql, moto
//!
//! Effects of a rotation, a changed password and a backend that is down on a service.
//!
//! Times are compared with their minimum: calls to the backend, and logins. All connections are
//! terminated at the start. `cargo xtask bench --with secrets-manager` measures all, `… window` one
//! of them. `--rotations N` sets the number of rotations (default 20), `--window S` the window
//! (default 5 s).

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failing bench panics, and figures are printed"
)]

mod down;
mod serving_again;

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
    let rotations = number("--rotations", 20);
    let window = Duration::from_secs(number("--window", 5) as u64);
    // `cargo test --all-targets` only checks that the bench starts.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let wanted =
        |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    let mut figures = Figures::default();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        if wanted("window") {
            serving_again::measure(&mut figures, serving_again::Case::Window(window), rotations)
                .await;
        }
        if wanted("changed") {
            serving_again::measure(&mut figures, serving_again::Case::Changed, rotations).await;
        }
        if wanted("down") {
            down::measure(&mut figures, window).await;
        }
    });
    println!("\n{figures}");
}
