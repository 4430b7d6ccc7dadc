//! needs: alone
//!
//! 200 seeds of 30 simulated days: no law is broken, and each law's hazard occurs.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and shows its sums"
)]

use std::process::Command;

#[test]
fn two_hundred_seeds_of_thirty_days_break_no_law() {
    // The profile `simulation` is optimised; that of tests is not.
    let arguments = "run --quiet --locked --profile simulation --package claviger-simulator \
                     -- --seeds 200 --days 30";
    let output = Command::new(env!("CARGO"))
        .args(arguments.split(' '))
        .output()
        .expect("cargo runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}\n{}",
        text(&output.stderr),
        text(&output.stdout)
    );
    println!("{}", text(&output.stdout));
}

#[test]
fn a_seed_repeats_exactly() {
    let hashes = [7, 7, 8].map(|seed| claviger::simulation::simulate(seed, 2).hash);
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[1], hashes[2]);
}
