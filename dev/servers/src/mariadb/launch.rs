//! Starts MariaDB and waits until it is ready.

use super::config::Config;
use super::installation::Installation;
use crate::error::StartError;
use crate::guardian::Guardian;
use crate::launch::Launch;
use crate::text_log::TextLog;
use crate::tokens::Module;

/// Starts the server on this port and waits until it accepts connections.
pub(super) fn launch(
    guardian: &mut Guardian,
    installation: &Installation,
    config: &Config,
    tokens: Option<&Module>,
    port: u16,
) -> Result<(), StartError> {
    let command = config.serve(installation, port);
    let command = match tokens {
        Some(tokens) => tokens.wrap(command),
        None => command,
    };
    // It listens before it is ready, and a trial connection would be logged.
    let is_ready = |_, log: &TextLog| log.contains("ready for connections");
    Launch {
        command: &command,
        port,
        is_ready,
    }
    .run(guardian)
}
