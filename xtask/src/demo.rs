//! `cargo xtask demo`.

use std::error::Error;
use std::ffi::OsString;
use std::process::ExitCode;

use claviger_servers::Server;

use crate::{CANNOT_START, cargo, provide};

/// Becomes the demo, in the debug profile: the first build is what a visitor waits for.
pub(crate) fn run(arguments: &[OsString]) -> Result<ExitCode, Box<dyn Error>> {
    if !provide::provide([Server::PostgreSql]).is_empty() {
        return Ok(ExitCode::from(CANNOT_START));
    }
    let words = ["run", "--package", "claviger-demo", "--"].map(OsString::from);
    match cargo::become_cargo(words.iter().chain(arguments))? {}
}
