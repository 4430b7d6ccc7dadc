//! Finds or installs the programs of servers.

use std::collections::BTreeSet;
use std::process::ExitCode;

use claviger_servers::{Server, install};

use crate::{CANNOT_START, with_sources};

/// Finds the programs of each server, or installs them where that is allowed. Reports failures on
/// stderr and returns the missing servers.
pub(crate) fn install_missing(servers: impl IntoIterator<Item = Server>) -> BTreeSet<Server> {
    let mut missing: BTreeSet<_> = servers.into_iter().collect();
    missing.retain(|&server| match install(server) {
        Ok(_) => false,
        Err(error) => {
            eprintln!("error: {}", with_sources(&error));
            true
        }
    });
    missing
}

/// `cargo xtask install`: installs missing servers and prints where each is.
pub(crate) fn install_servers(servers: &[Server]) -> ExitCode {
    let missing = install_missing(servers.iter().copied());
    for server in servers {
        if let Some(place) = server.find().filter(|_| !missing.contains(server)) {
            println!("{server}: {}", place.display());
        }
    }
    if missing.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(CANNOT_START)
    }
}
