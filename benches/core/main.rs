//! needs: postgresql
//!
//! Measures the figures that the library must reach. They are ratios of two measurements in one
//! run, because absolute times vary on shared machines. `cargo xtask bench` measures all, `cargo
//! xtask bench -- query` one of them. `--rotations N` sets the number of rotations (default 200).

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failing bench panics, and figures are printed"
)]

mod busy;
mod connections;
mod own_work;
mod query;
mod rejected;
mod rotations;
mod scale;
mod serving_again;

use claviger_fixtures::Figures;

fn main() {
    let mut arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let mut rotations_wanted = 200;
    if let Some(at) = arguments
        .iter()
        .position(|argument| argument == "--rotations")
    {
        rotations_wanted = arguments
            .get(at + 1)
            .and_then(|count| count.parse().ok())
            .expect("--rotations takes a number");
        arguments.drain(at..at + 2);
    }
    let wanted =
        |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    // `cargo test --all-targets` only checks that the bench starts.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let mut figures = Figures::default();
    // One thread, because allocations are counted by thread and the `otel` bench measures on one.
    let one_thread = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    if wanted("query") {
        query::measure(&mut figures, &one_thread);
    }
    if wanted("own-work") {
        own_work::measure(&mut figures, &one_thread);
    }
    if wanted("pools") {
        scale::measure_pools(&mut figures, &one_thread);
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        if wanted("busy") {
            busy::measure(&mut figures).await;
        }
        if wanted("callers") {
            scale::measure_callers(&mut figures).await;
        }
        if wanted("rejected") {
            rejected::measure(&mut figures).await;
        }
        if wanted("serving-again") {
            serving_again::measure(&mut figures).await;
        }
        if wanted("connections") {
            connections::measure(&mut figures).await;
        }
        if wanted("rotations") {
            rotations::measure(&mut figures, rotations_wanted).await;
        }
    });
    println!("\n{figures}");
}
