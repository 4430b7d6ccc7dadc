//! `cargo xtask test`.

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;
use std::thread;

use crate::cli::TestOptions;
use crate::plan::{Plan, plan};
use crate::tally::Tally;
use crate::{cargo, provide, workspace};

/// Runs every test that this machine can run and prints the sums on the last line.
pub(crate) fn run_tests(options: &TestOptions) -> Result<ExitCode, Box<dyn Error>> {
    let files = workspace::test_files(&workspace::root())?;
    let missing = provide::install_missing(files.iter().flat_map(|file| &file.needs).copied());
    let plan = plan(files, &missing);
    for target in &plan.skipped {
        println!("{}", target.line());
    }
    if options.require_all && !plan.skipped.is_empty() {
        return Err(
            "nothing was run, because --require-all is set and the targets above would be skipped"
                .into(),
        );
    }
    let (tally, succeeded) = run_all(&plan, &options.pass_on)?;
    println!("{}", tally.line());
    Ok(if succeeded {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns the sums of all calls, and whether all succeeded. A failed test does not stop the
/// others, but a failed build does.
fn run_all(plan: &Plan, pass_on: &[OsString]) -> Result<(Tally, bool), Box<dyn Error>> {
    let mut sum = Tally {
        skipped: plan.skipped.iter().map(|target| target.file.tests).sum(),
        ..Tally::default()
    };
    let mut succeeded = true;
    if !cargo::run_to_end(&plan.build)?.success() {
        sum.failed = 1;
        return Ok((sum, false));
    }
    for step in &plan.steps {
        let runs: Vec<_> = thread::scope(|scope| {
            let calls: Vec<_> = step
                .iter()
                .map(|call| scope.spawn(|| cargo::run_tests(call, pass_on)))
                .collect();
            calls.into_iter().map(|call| call.join()).collect()
        });
        for (call, run) in step.iter().zip(runs) {
            let (status, mut tally) = run.map_err(|_| "a thread that ran tests panicked")??;
            if !status.success() && tally.failed == 0 {
                eprintln!(
                    "error: cargo {} ended with {status} and reported no failed test; this counts \
                     as one",
                    call.join(" ")
                );
                tally.failed = 1;
            }
            succeeded &= status.success() && tally.failed == 0;
            sum.add(tally);
        }
    }
    Ok((sum, succeeded))
}
