//! Finds or installs the programs of servers.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use claviger_servers::{InstallError, Server, install};

use crate::{CANNOT_START, with_sources};

/// Time between two dots while an installation runs.
const DOT_INTERVAL: Duration = Duration::from_millis(1_500);

/// Finds the programs of each server, or installs them where that is allowed. Reports failures on
/// stderr and returns the missing servers.
pub(crate) fn install_missing(servers: impl IntoIterator<Item = Server>) -> BTreeSet<Server> {
    let mut missing: BTreeSet<_> = servers.into_iter().collect();
    missing.retain(|&server| match install_with_dots(server) {
        Ok(_) => false,
        Err(error) => {
            eprintln!("error: {}", with_sources(&error));
            true
        }
    });
    missing
}

/// Installs a server if it is missing. Prints a dot on stderr now and then, because builds and
/// downloads may print nothing for minutes.
fn install_with_dots(server: Server) -> Result<PathBuf, InstallError> {
    if server.find().is_some() {
        return install(server);
    }
    let (done, ended) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(DOT_INTERVAL) {
                eprint!(".");
            }
        });
        let installed = install(server);
        drop(done);
        installed
    })
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
