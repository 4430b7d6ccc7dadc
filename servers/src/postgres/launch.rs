//! Starting the server process and knowing when it is ready.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::Log;
use crate::deadline::Deadline;
use crate::error::{StartError, io};
use crate::guardian::Guardian;
use crate::tokens::Module;

/// How long the server may take until it accepts connections; it takes some 50 ms.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// How many lines of the log an error shows.
const LINES_TO_SHOW: usize = 20;

/// Starts the server on this port and waits until it accepts connections.
pub(super) fn launch(guardian: &mut Guardian, programs: &Path, tokens: Option<&Module>, port: u16) -> Result<(), StartError> {
    let guardian_failed = || io("talk to the server's guardian process");
    let data = guardian.folder().join("data");
    let log = Log::of(guardian.server_log()).from_now().map_err(io("read the server's log"))?;
    let mut command = vec![programs.join("postgres").into_os_string(), "-D".into(), data.clone().into_os_string()];
    command.extend(["-p".into(), port.to_string().into()]);
    if let Some(tokens) = tokens {
        command = tokens.around(command);
    }
    let pid = guardian.serve(&command).map_err(guardian_failed())?;
    let deadline = Deadline::after(PATIENCE);
    while !is_ready(&data, pid) {
        if !guardian.is_running().map_err(guardian_failed())? {
            let log = log.tail(LINES_TO_SHOW);
            return Err(if log.contains("Address already in use") { StartError::PortTaken { port } } else { StartError::Ended { log } });
        }
        if deadline.has_passed() {
            return Err(StartError::NotReady { after: PATIENCE, log: log.tail(LINES_TO_SHOW) });
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// What `pg_ctl --wait` looks at: the first line of `postmaster.pid` is the process id,
/// the eighth becomes `ready`. Unlike a trial connection it leaves no trace in the log.
fn is_ready(data: &Path, pid: u32) -> bool {
    let Ok(status) = fs::read_to_string(data.join("postmaster.pid")) else {
        return false;
    };
    let mut lines = status.lines().map(str::trim);
    lines.next() == Some(pid.to_string().as_str()) && lines.nth(6) == Some("ready")
}
