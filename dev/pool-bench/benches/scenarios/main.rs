//! needs: postgresql, redis, moto
//!
//! Four scenarios of a changing password, on each kind of pool and on the plain pool of the same
//! library. The plain pool reads the password once. `cargo xtask bench --with pools` measures all
//! kinds, `… deadpool redis` only these two.
//!
//! Prints a table in Markdown for each kind: Claviger's figure, then the plain pool's. The median
//! is that of the calls before the change. The errors of failed calls are printed to the standard
//! error. A kind takes 2 min.

#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a failing bench panics, and figures are printed"
)]

mod callers;
mod kind;
mod postgres;
mod redis;
mod scenario;

use callers::Measured;
use kind::Kind;
use scenario::{Scenario, measure};

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    // `cargo test --all-targets` only checks that the bench starts.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        compare::<postgres::Sqlx>(&arguments).await;
        compare::<postgres::Deadpool>(&arguments).await;
        compare::<postgres::Diesel>(&arguments).await;
        compare::<postgres::Bb8>(&arguments).await;
        compare::<redis::Managed>(&arguments).await;
    });
}

/// Measures a kind in all scenarios, unless `wanted` names only other kinds.
async fn compare<K: Kind>(wanted: &[String]) {
    if !wanted.is_empty() && !wanted.iter().any(|name| name == K::NAME) {
        return;
    }
    println!(
        "\n### {}\n\n| scenario | calls served | failed calls | longest outage, ms | failed logins | \
         median call, µs | fetches |\n|---|---|---|---|---|---|---|",
        K::NAME
    );
    for scenario in Scenario::ALL {
        let (ours, plain) = measure::<K>(scenario).await;
        println!("{}", row(scenario.title(), &ours, &plain));
        print_errors("Claviger", &ours);
        print_errors("plain pool", &plain);
    }
}

/// Prints each error text of failed calls to the standard error, so that the table stays whole.
fn print_errors(pool: &str, measured: &Measured) {
    for (text, calls) in &measured.errors {
        eprintln!("{pool}: {calls} failed calls: {text}");
    }
}

fn row(title: &str, ours: &Measured, plain: &Measured) -> String {
    let ratio = |of: fn(&Measured) -> f64| {
        let (ours, plain) = (of(ours), of(plain));
        format!("{ours:.0} / {plain:.0} = {:.2}", ours / plain)
    };
    let pair = |of: fn(&Measured) -> f64| format!("{:.0} / {:.0}", of(ours), of(plain));
    format!(
        "| {title} | {} | {} | {} | {} | {} | {} |",
        ratio(|it| it.served as f64),
        pair(|it| it.failed as f64),
        pair(|it| it.longest_outage_ms),
        pair(|it| it.failed_logins as f64),
        ratio(|it| it.median_us),
        ours.fetches,
    )
}
