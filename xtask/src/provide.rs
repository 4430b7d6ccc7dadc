//! Making sure that a server's programs are on this machine.

use std::env;

use claviger_servers::{Programs, Server, install};

use crate::with_sources;

/// Finds the server's programs, else installs them where that is allowed.
///
/// # Errors
/// A line that says why not and how to install them.
pub(crate) fn provide(server: Server) -> Result<(), String> {
    let Err(missing) = Programs::from_environment().find(server) else { return Ok(()) };
    if env::var_os(server.variable()).is_some_and(|folder| !folder.is_empty()) {
        // The user chose a folder and slipped; an installation would not be looked at.
        return Err(missing.to_string());
    }
    install(server).map(drop).map_err(|error| with_sources(&error))
}
